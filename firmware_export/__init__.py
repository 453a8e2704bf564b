"""From a model file to a C99 library that computes the same bits on a microcontroller.

    reader → lower → plan → library → emit

`reader` opens the .tflite, `lower` turns its operators into calls of the kernels in `runtime/`,
`plan` gives every activation its place in one buffer, `library` puts the files together: the C of
`runtime/`, what `model_source` and it itself generate, the files of `project/` around them, and the
`golden` vectors of the self-test, with the prefix of its `names`; `emit` writes the folder. `twin`
computes in Python what the library will compute; `fixed_front_end` is its front end. `verify` and
`measure` run the library here and on emulated `boards/`. Nothing needs TensorFlow.
"""
