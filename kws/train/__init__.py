"""Training: a recipe and recordings in, the folder of a run out."""
