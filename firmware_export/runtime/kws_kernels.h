/*
 * The operators of a network, on int8 activations with the rounding of TFLite's kernels.
 *
 * Every kernel takes its parameters, its input, its output, then further inputs and state. Buffers
 * of one call do not overlap. Shapes are channels-last, without a batch dimension. Nothing is
 * allocated, and nothing outside the arguments is changed.
 *
 * Zero points of inputs are folded into the biases: bias = b - zero_point * sum(weights), and no
 * sum of a bias and products exceeds 32 bits. A scale is multiplier * 2^(shift - 31), multiplier in
 * Q31.
 *
 * Where a scaled value lies exactly between two integers, TFLite's vectorised loops and its loops
 * over the remainder do not all round alike. `..._up` is the number of elements or channels, from
 * the first, that are rounded up; the rest are rounded away from zero.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef KWS_KERNELS_H
#define KWS_KERNELS_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Convolution: weights [output_c, filter_h, filter_w, input_c]. */
typedef struct kws_conv {
    int32_t input_h, input_w, input_c;    /* input [input_h, input_w, input_c] */
    int32_t output_h, output_w, output_c; /* output [output_h, output_w, output_c] */
    int32_t filter_h, filter_w;           /* taps */
    int32_t stride_h, dilation_h, pad_h;  /* rows: step, distance of taps, padding above */
    int32_t stride_w, dilation_w, pad_w;  /* columns: step, distance of taps, padding to the left */
    int32_t input_zero_point;             /* value of the padding, -128 ... 127 */
    int32_t output_zero_point;            /* -128 ... 127 */
    int32_t output_min, output_max;       /* range after the activation, -128 ... 127 */
    const int8_t *weights;                /* [output_c, filter_h, filter_w, input_c] */
    const int32_t *bias;                  /* [output_c], with the input's zero point */
    const int32_t *multipliers;           /* [output_c], Q31 */
    const int8_t *shifts;                 /* [output_c] */
} kws_conv;

void kws_conv_s8(const kws_conv *p, const int8_t *in, int8_t *out);

/* Depthwise convolution: output channel i depends on input channel i / (output_c / input_c). */
typedef struct kws_depthwise {
    int32_t input_h, input_w, input_c;    /* input [input_h, input_w, input_c] */
    int32_t output_h, output_w, output_c; /* output [output_h, output_w, output_c] */
    int32_t filter_h, filter_w;           /* taps */
    int32_t stride_h, dilation_h, pad_h;  /* rows: step, distance of taps, padding above */
    int32_t stride_w, dilation_w, pad_w;  /* columns: step, distance of taps, padding to the left */
    int32_t input_zero_point;             /* value of the padding, -128 ... 127 */
    int32_t output_zero_point;            /* -128 ... 127 */
    int32_t output_min, output_max;       /* range after the activation, -128 ... 127 */
    int32_t channels_up;                  /* channels with halves rounded up */
    const int8_t *weights;                /* [filter_h, filter_w, output_c] */
    const int32_t *bias;                  /* [output_c], with the input's zero point */
    const int32_t *multipliers;           /* [output_c], Q31 */
    const int8_t *shifts;                 /* [output_c] */
} kws_depthwise;

void kws_depthwise_s8(const kws_depthwise *p, const int8_t *in, int8_t *out);

/* Pooling: input and output have the same scale; padding is ignored. */
typedef struct kws_pool {
    int32_t input_h, input_w, input_c; /* input [input_h, input_w, input_c] */
    int32_t output_h, output_w;        /* output [output_h, output_w, input_c] */
    int32_t filter_h, filter_w;        /* size of the window */
    int32_t stride_h, pad_h;           /* rows: step, padding above */
    int32_t stride_w, pad_w;           /* columns: step, padding to the left */
    int32_t output_min, output_max;    /* range after the activation, -128 ... 127 */
} kws_pool;

void kws_max_pool_s8(const kws_pool *p, const int8_t *in, int8_t *out);
void kws_average_pool_s8(const kws_pool *p, const int8_t *in, int8_t *out);

/* Sum of two arrays of the same shape. */
typedef struct kws_add {
    int32_t size;                                               /* elements */
    int32_t size_up;                                            /* in whole blocks of 16 */
    int32_t input1_zero_point, input1_multiplier, input1_shift; /* of the first, Q31 */
    int32_t input2_zero_point, input2_multiplier, input2_shift; /* of the second, Q31 */
    int32_t output_zero_point, output_multiplier, output_shift; /* of the sum, Q31 */
    int32_t output_min, output_max; /* range after the activation, -128 ... 127 */
} kws_add;

void kws_add_s8(const kws_add *p, const int8_t *in1, int8_t *out, const int8_t *in2);

/* Fully connected: output [rows, units] of input [rows, depth]. */
typedef struct kws_fully_connected {
    int32_t rows, depth, units;     /* input [rows, depth], output [rows, units] */
    int32_t output_zero_point;      /* -128 ... 127 */
    int32_t output_min, output_max; /* range after the activation, -128 ... 127 */
    const int8_t *weights;          /* [units, depth] */
    const int32_t *bias;            /* [units], with the input's zero point */
    const int32_t *multipliers;     /* [units], Q31 */
    const int8_t *shifts;           /* [units] */
} kws_fully_connected;

void kws_fully_connected_s8(const kws_fully_connected *p, const int8_t *in, int8_t *out);

/* LSTM: int8 inputs, weights and hidden state, int16 cell state. Gates: input, forget, cell,
 * output. */
typedef struct kws_lstm {
    int32_t steps, inputs, units;      /* input [steps, inputs], output [steps, units] */
    const int8_t *input_weights;       /* [units, 4 gates, inputs] */
    const int32_t *input_bias;         /* [units, 4 gates], with the input's zero point */
    const int32_t *input_multipliers;  /* [4 gates], Q31, to Q3.12 */
    const int8_t *input_shifts;        /* [4 gates] */
    const int8_t *hidden_weights;      /* [units, 4 gates, units] */
    const int32_t *hidden_bias;        /* [units, 4 gates], with the state's zero point */
    const int32_t *hidden_multipliers; /* [4 gates], Q31, to Q3.12 */
    const int8_t *hidden_shifts;       /* [4 gates] */
    int32_t product_shift;             /* from input gate * cell gate, Q0.30, to the cell's scale */
    int32_t cell_integer_bits;         /* the cell is Qm.(15 - m), m = 0 ... 6 */
    int32_t cell_min, cell_max;        /* range of the cell, in its own scale */
    int32_t output_multiplier;         /* from output gate * tanh(cell), Q0.30; Q31 */
    int32_t output_shift;              /* its power of two */
    int32_t output_zero_point;         /* -128 ... 127 */
} kws_lstm;

/* hidden [units] and cell [units] are carried from call to call. */
void kws_lstm_s8(const kws_lstm *p, const int8_t *in, int8_t *out, int8_t *hidden, int16_t *cell);

/* Softmax over the last dimension; the output is 256 p - 128. */
typedef struct kws_softmax {
    int32_t rows, depth;          /* input and output [rows, depth] */
    const uint32_t *exponentials; /* [256], bits of the float32 exp(-scale * n) */
} kws_softmax;

void kws_softmax_s8(const kws_softmax *p, const int8_t *in, int8_t *out);

/* Rescaling. */
typedef struct kws_quantize {
    int32_t size;              /* elements */
    int32_t size_up;           /* elements with halves rounded up */
    int32_t input_zero_point;  /* -128 ... 127 */
    int32_t output_zero_point; /* -128 ... 127 */
    int32_t multiplier, shift; /* scale, Q31 */
} kws_quantize;

void kws_quantize_s8(const kws_quantize *p, const int8_t *in, int8_t *out);

/* A function of one value: logistic, tanh, ReLU. */
typedef struct kws_lut {
    int32_t size;        /* elements */
    const int8_t *table; /* [256], for -128 ... 127 */
} kws_lut;

void kws_lut_s8(const kws_lut *p, const int8_t *in, int8_t *out);

/* Mean over the middle one of three dimensions. */
typedef struct kws_mean {
    int32_t outer, count, inner; /* input [outer, count, inner], output [outer, inner] */
    int32_t inner_up;            /* inner ones with halves rounded up */
    int32_t offset;              /* added to the sum of `count` values */
    int32_t multiplier, shift;   /* scale, with 1 / count in it; Q31 */
    int32_t bias;                /* added to the result */
} kws_mean;

void kws_mean_s8(const kws_mean *p, const int8_t *in, int8_t *out);

/* Part of an array: four nested loops over the input, the output is written in order. */
typedef struct kws_strided_slice {
    int32_t first;                          /* index of the first element */
    int32_t count0, count1, count2, count3; /* elements of each loop, the innermost last */
    int32_t step0, step1, step2, step3;     /* distance in the input, in elements */
} kws_strided_slice;

void kws_strided_slice_s8(const kws_strided_slice *p, const int8_t *in, int8_t *out);

/* Padding: four nested loops over the output, the input is read in order. */
typedef struct kws_pad {
    int32_t size;                           /* elements of the output */
    int32_t value;                          /* of the padding, -128 ... 127 */
    int32_t first;                          /* index of the first element that is not padding */
    int32_t count0, count1, count2, count3; /* elements of each loop, the innermost last */
    int32_t step0, step1, step2, step3;     /* distance in the output, in elements */
} kws_pad;

void kws_pad_s8(const kws_pad *p, const int8_t *in, int8_t *out);

#ifdef __cplusplus
}
#endif

#endif
