"""Arithmetic on bits: packing, Hamming distance, exact top-k, merging. numpy only; no files, no ray."""
