"""Long recordings: a model's posteriors, and the events that any thresholds give."""
