"""Data: what there is, getting it, making it, and reading it as arrays."""
