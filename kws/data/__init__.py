"""Data: finding, fetching and generating clips, and reading them as arrays."""
