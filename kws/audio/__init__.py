"""Sound: files, raw samples from a pipe, the microphone."""
