"""Long recordings: what a model answers to them, and what follows from it for other decisions."""
