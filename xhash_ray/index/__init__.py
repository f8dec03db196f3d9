"""Codes at rest as a sharded index, and answers from them."""
