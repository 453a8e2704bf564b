"""The firmware's front end: MFCC in integer arithmetic, bit for bit the same here and in C.

`mfcc.fixed_mfcc` does in NumPy what ``runtime/kws_fft.c`` and ``runtime/kws_frontend.c`` do,
operation by operation, so that Python can show what a device computes; tests hold the two equal in
every bit. Read it beside the C, whose comments explain the Q formats and why nothing overflows.

Both approximate `kws.frontend`. On speech, from -60 dB to clipped, they stay within 0.001 of its
MFCC (measured: 0.0002; 2 of 10,000 int8 values differ, by one).
"""
