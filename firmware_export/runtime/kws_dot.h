/*
 * Products of rows of weights with one vector: the inner loop of most layers.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef KWS_DOT_H
#define KWS_DOT_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The sum of a[i] * b[i], i = 0 ... n - 1. Neither has to be aligned. */
int32_t kws_dot_s8(const int8_t *a, const int8_t *b, int32_t n);

/*
 * Adds to sums[row] the product of x with each of 1 ... 4 rows of weights:
 * weights[row * stride + i] * x[i], i = 0 ... n - 1. Four rows are cheapest: x is read once.
 */
void kws_dot_rows_s8(const int8_t *x, const int8_t *weights, int32_t stride, int32_t n,
                     int32_t rows, int32_t *sums);

#ifdef __cplusplus
}
#endif

#endif
