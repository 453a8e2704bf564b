"""Export: the folder of a run in, one self-describing .tflite out, checked against the run."""
