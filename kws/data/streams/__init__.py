"""Hours of labelled audio, assembled from clips, sentences and noise."""
