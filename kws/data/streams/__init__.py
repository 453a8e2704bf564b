"""Hours of audio with labels, laid from clips, sentences and noise."""
