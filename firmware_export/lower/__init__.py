"""Lowering: from the operators of a model to calls of the kernels in C."""
