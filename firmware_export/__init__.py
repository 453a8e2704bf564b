"""From a model file to a C99 library that computes the same bits on a microcontroller.

    reader → lower → plan → emit

`reader` opens the .tflite, `lower` turns its operators into calls of the kernels in `runtime/`,
`plan` gives every activation its place in one buffer, and `emit` writes the folder.
`fixed_front_end` is the NumPy twin of the MFCC in C. Nothing here needs TensorFlow.
"""
