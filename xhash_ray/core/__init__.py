"""Arithmetic on bits: packing, Hamming distance, exact top-k, merging. numpy and numba; no files, no ray."""
