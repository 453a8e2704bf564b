"""A verdict on a trained network: its results on new recordings, and advice."""
