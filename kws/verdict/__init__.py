"""A verdict on a trained network: how it does on what it never heard, and what would help."""
