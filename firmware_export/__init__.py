"""From a model file to a C99 library that computes the same bits on a microcontroller.

    reader → lower → plan → library → files → emit

`reader` opens the .tflite; `lower` turns its operators into calls of the kernels in `runtime/`;
`plan` places all activations in one buffer; `library` holds the parts and their sizes; `files`
assembles the C of `runtime/`, the generated C (`model_source`, `self_test_vectors`) and the
`projects` around them; `emit` writes the folder.

`reference_model` computes in Python what the library must compute, with `fixed_front_end` as its
front end; `verify` and `measure` run the library here and on emulated `boards/`; `tflm` writes the
form for TensorFlow Lite Micro. Nothing needs TensorFlow.
"""
