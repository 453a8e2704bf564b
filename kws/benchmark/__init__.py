"""Speed and memory of a model, hours of audio through the runner, and models side by side."""
