/*
 * LiteRT's float32 softmax in integer arithmetic: a sum of exponentials from a table, one
 * reciprocal, one product for each output. All numbers are positive, and IEEE 754 defines the
 * rounding of every operation: to nearest, halves to even. So the bits are the same.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "kws_kernels.h"

#define HIDDEN_BIT ((uint32_t)1 << 23)

/* A float32 that is not negative: significand * 2^(exponent - 150). */
typedef struct number {
    uint32_t significand; /* below 2^24; at least 2^23, or else the exponent is 1 */
    uint32_t exponent;    /* 1 ... 254 */
} number;

static number unpack(uint32_t bits)
{
    number x;

    x.exponent = bits >> 23;
    x.significand = bits & (HIDDEN_BIT - 1);
    if (x.exponent == 0) {
        x.exponent = 1;
    } else {
        x.significand |= HIDDEN_BIT;
    }
    return x;
}

/* wide / 2^n, rounded to nearest, halves to even. */
static uint32_t round_to_even(uint32_t wide, int n)
{
    uint32_t half = (uint32_t)1 << (n - 1);
    uint32_t result = wide >> n;
    uint32_t rest = wide & (2 * half - 1);

    return result + (rest > half || (rest == half && (result & 1)));
}

static number add(number a, number b)
{
    enum { GUARD = 6 }; /* bits after the significand; the last one stands for all beyond it */
    uint32_t distance, wide, low;

    if (a.exponent < b.exponent) {
        number swap = a;

        a = b;
        b = swap;
    }
    distance = a.exponent - b.exponent;
    low = b.significand << GUARD;
    if (distance > 31) {
        low = 0; /* less than half of the last guard bit */
    } else if (distance > 0) {
        low = (low >> distance) | ((low << (32 - distance)) != 0);
    }
    wide = (a.significand << GUARD) + low;
    if (wide >> (24 + GUARD)) {
        wide = (wide >> 1) | (wide & 1);
        a.exponent++;
    }
    a.significand = round_to_even(wide, GUARD);
    if (a.significand >> 24) {
        a.significand >>= 1;
        a.exponent++;
    }
    return a;
}

/* 256 / x for x >= 1. */
static number reciprocal(number x)
{
    number result;
    uint32_t rest = HIDDEN_BIT;
    uint32_t quotient = 0;
    int i;

    /* x = s * 2^(e - 150), 256 / x = (2^47 / s) * 2^(261 - e - 150). */
    result.exponent = 261 - x.exponent;
    if (x.significand == HIDDEN_BIT) {
        result.significand = HIDDEN_BIT;
        result.exponent++;
        return result;
    }
    for (i = 0; i < 24; i++) {
        rest <<= 1;
        quotient <<= 1;
        if (rest >= x.significand) {
            rest -= x.significand;
            quotient |= 1;
        }
    }
    /* It is never exactly half: s would have to divide a power of two. */
    result.significand = quotient + (2 * rest > x.significand);
    return result;
}

/* a * b as float32, rounded to an integer, halves up; 0 ... 256. */
static int32_t whole_product(number a, number b)
{
    uint64_t product = (uint64_t)a.significand * b.significand;
    int32_t exponent = (int32_t)(a.exponent + b.exponent) - 300;
    uint32_t significand;
    int n = product >> 47 ? 24 : 23;

    if (a.significand < HIDDEN_BIT) {
        return 0; /* below 2^-100 */
    }
    /* 49 bits at most: round by hand. */
    significand = (uint32_t)(product >> n);
    {
        uint32_t half = (uint32_t)1 << (n - 1);
        uint32_t rest = (uint32_t)product & (2 * half - 1);

        significand += rest > half || (rest == half && (significand & 1));
    }
    exponent += n;
    if (exponent < -25) {
        return 0;
    }
    return (int32_t)((significand + ((uint32_t)1 << (-exponent - 1))) >> -exponent);
}

void kws_softmax_s8(const kws_softmax *p, const int8_t *in, int8_t *out)
{
    int32_t row, i;

    for (row = 0; row < p->rows; row++, in += p->depth, out += p->depth) {
        number sum = {0, 1}, scale;
        int32_t most = -128;

        for (i = 0; i < p->depth; i++) {
            most = in[i] > most ? in[i] : most;
        }
        for (i = 0; i < p->depth; i++) {
            sum = add(sum, unpack(p->exponentials[most - in[i]]));
        }
        scale = reciprocal(sum);
        for (i = 0; i < p->depth; i++) {
            int32_t value = whole_product(unpack(p->exponentials[most - in[i]]), scale) - 128;

            out[i] = (int8_t)(value > 127 ? 127 : value);
        }
    }
}
