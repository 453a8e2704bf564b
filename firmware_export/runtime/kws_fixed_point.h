/*
 * Fixed-point arithmetic that the kernels share.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef KWS_FIXED_POINT_H
#define KWS_FIXED_POINT_H

#include <stdint.h>

/*
 * In C the right shift of a negative number is implementation-defined. Every compiler for the
 * targets of this library shifts in copies of the sign, which gives floor(x / 2^n) without a
 * division. kws_kernels_are_arithmetic (kws_dot.c) does not compile where it is otherwise.
 */
static inline int32_t kws_shift_right(int32_t x, int n)
{
    return x >> n;
}

static inline int32_t kws_clamp(int32_t x, int32_t low, int32_t high)
{
    return x < low ? low : (x > high ? high : x);
}

/* x / 2^n rounded to nearest, halves away from zero; |x| < 2^31 - 2^(n - 1), n = 0 ... 30. */
static inline int32_t kws_round_shift(int32_t x, int n)
{
    if (n == 0) {
        return x;
    }
    return kws_shift_right(x + ((int32_t)1 << (n - 1)) - (x < 0), n);
}

/* x * multiplier / 2^31 rounded to nearest, halves up; multiplier >= 0. */
static inline int32_t kws_multiply_high_64(int32_t x, int32_t multiplier)
{
    return (int32_t)(((int64_t)x * multiplier + ((int64_t)1 << 30)) >> 31);
}

/* The same from 16-bit products: half the work on cores that have no others (Cortex-M0). */
static inline int32_t kws_multiply_high_16(int32_t x, int32_t multiplier)
{
    const int32_t x1 = kws_shift_right(x, 16), m1 = kws_shift_right(multiplier, 16);
    const uint32_t x0 = (uint32_t)x & 0xFFFF, m0 = (uint32_t)multiplier & 0xFFFF;
    /* Multiples of 2^16, including the carry of the lowest product; all below 2^31. */
    const int32_t cross = x1 * (int32_t)m0 + (int32_t)((x0 * m0) >> 16);
    const int32_t low = (int32_t)(x0 * (uint32_t)m1) + (cross & 0xFFFF) + (1 << 14);

    return 2 * (x1 * m1 + kws_shift_right(cross, 16)) + kws_shift_right(low, 15);
}

static inline int32_t kws_multiply_high(int32_t x, int32_t multiplier)
{
#if defined(__thumb__) && !defined(__thumb2__)
    return kws_multiply_high_16(x, multiplier);
#else
    return kws_multiply_high_64(x, multiplier);
#endif
}

/*
 * x * multiplier * 2^(shift - 31), rounded after the product and again after the shift; multiplier
 * >= 0, shift = -31 ... 30. The first rounding takes halves up. So does the second in matrix
 * products, which LiteRT leaves to the library ruy (convolutions, fully connected), and in
 * vectorised loops; plain loops round halves away from zero.
 */
static inline int32_t kws_scale_up(int32_t x, int32_t multiplier, int shift)
{
    int32_t high;

    if (shift > 0) {
        return kws_multiply_high((int32_t)((uint32_t)x << shift), multiplier);
    }
    high = kws_multiply_high(x, multiplier);
    if (shift == 0) {
        return high;
    }
    /* Halved before 1 is added, which could overflow otherwise. */
    return kws_shift_right(kws_shift_right(high, -shift - 1) + 1, 1);
}

static inline int32_t kws_scale_away(int32_t x, int32_t multiplier, int shift)
{
    int32_t high;

    if (shift >= 0) {
        return kws_scale_up(x, multiplier, shift);
    }
    high = kws_multiply_high(x, multiplier); /* above -2^31, as the multiplier is below 2^31 */
    high -= high < 0;
    return kws_shift_right(kws_shift_right(high, -shift - 1) + 1, 1);
}

static inline int32_t kws_scale(int32_t x, int32_t multiplier, int shift, int up)
{
    return up ? kws_scale_up(x, multiplier, shift) : kws_scale_away(x, multiplier, shift);
}

#endif
