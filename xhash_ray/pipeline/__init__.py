"""Millions of pairs in units of work: planned, read, computed, committed, watched, verified. No Ray."""
