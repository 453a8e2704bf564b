"""Audio input: files, raw samples from a pipe, the microphone."""
