/*
 * SPDX-License-Identifier: Apache-2.0
 */
#include "kws_dot.h"

#include <string.h>

/* See kws_fixed_point.h: negative numbers have to keep their sign when they are shifted. */
typedef char kws_kernels_are_arithmetic[(-3 >> 1) == -2 ? 1 : -1];

#if defined(__ARM_FEATURE_DSP) && defined(__GNUC__)
/* Cortex-M4 and up: two products of 16 bits in one instruction. Bytes 0 and 2 of a word become one
 * pair of 16 bits, bytes 1 and 3 another; in which order products are summed does not matter. */
#define KWS_HAVE_DSP 1

static inline uint32_t load4(const int8_t *p)
{
    uint32_t word;

    memcpy(&word, p, sizeof word); /* one load; these cores read words at any address */
    return word;
}

static inline uint32_t even_bytes(uint32_t word)
{
    uint32_t pair;

    __asm__("sxtb16 %0, %1" : "=r"(pair) : "r"(word));
    return pair;
}

static inline uint32_t odd_bytes(uint32_t word)
{
    uint32_t pair;

    __asm__("sxtb16 %0, %1, ror #8" : "=r"(pair) : "r"(word));
    return pair;
}

static inline int32_t add_products(uint32_t a, uint32_t b, int32_t sum)
{
    int32_t result;

    __asm__("smlad %0, %1, %2, %3" : "=r"(result) : "r"(a), "r"(b), "r"(sum));
    return result;
}

static inline int32_t add_products4(uint32_t even, uint32_t odd, const int8_t *p, int32_t sum)
{
    uint32_t word = load4(p);

    sum = add_products(even, even_bytes(word), sum);
    return add_products(odd, odd_bytes(word), sum);
}
#endif

int32_t kws_dot_s8(const int8_t *a, const int8_t *b, int32_t n)
{
    int32_t sum = 0;
    int32_t i = 0;

#ifdef KWS_HAVE_DSP
    for (; i + 4 <= n; i += 4) {
        uint32_t word = load4(a + i);

        sum = add_products4(even_bytes(word), odd_bytes(word), b + i, sum);
    }
#endif
    for (; i < n; i++) {
        sum += a[i] * b[i];
    }
    return sum;
}

static void dot4(const int8_t *x, const int8_t *weights, int32_t stride, int32_t n, int32_t *sums)
{
    const int8_t *row0 = weights;
    const int8_t *row1 = row0 + stride;
    const int8_t *row2 = row1 + stride;
    const int8_t *row3 = row2 + stride;
    int32_t sum0 = sums[0], sum1 = sums[1], sum2 = sums[2], sum3 = sums[3];
    int32_t i = 0;

#ifdef KWS_HAVE_DSP
    for (; i + 4 <= n; i += 4) {
        uint32_t word = load4(x + i);
        uint32_t even = even_bytes(word), odd = odd_bytes(word);

        sum0 = add_products4(even, odd, row0 + i, sum0);
        sum1 = add_products4(even, odd, row1 + i, sum1);
        sum2 = add_products4(even, odd, row2 + i, sum2);
        sum3 = add_products4(even, odd, row3 + i, sum3);
    }
#endif
    for (; i < n; i++) {
        int32_t value = x[i];

        sum0 += value * row0[i];
        sum1 += value * row1[i];
        sum2 += value * row2[i];
        sum3 += value * row3[i];
    }
    sums[0] = sum0;
    sums[1] = sum1;
    sums[2] = sum2;
    sums[3] = sum3;
}

void kws_dot_rows_s8(const int8_t *x, const int8_t *weights, int32_t stride, int32_t n,
                     int32_t rows, int32_t *sums)
{
    int32_t row;

    if (rows == 4) {
        dot4(x, weights, stride, n, sums);
        return;
    }
    for (row = 0; row < rows; row++) {
        sums[row] += kws_dot_s8(x, weights + row * stride, n);
    }
}
