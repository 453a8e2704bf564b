/*
 * For tests only: compares the arithmetic of kws_softmax.c with the float unit of this machine, and
 * the two ways to multiply in kws_fixed_point.h with each other.
 */
#include "kws_softmax.c"

#include "kws_fixed_point.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

static uint32_t state = 1;

static uint32_t random_bits(void)
{
    state ^= state << 13;
    state ^= state >> 17;
    state ^= state << 5;
    return state;
}

static float as_float(uint32_t bits)
{
    float x;

    memcpy(&x, &bits, sizeof x);
    return x;
}

/* Subnormal numbers have 0 as their exponent. */
static float value(number x)
{
    uint32_t exponent = x.significand < HIDDEN_BIT ? 0 : x.exponent;

    return as_float((exponent << 23) | (x.significand & (HIDDEN_BIT - 1)));
}

/* A number from 2^(low - 127) to 2^(high - 126), often with few bits, so that there are ties. */
static uint32_t random_number(uint32_t low, uint32_t high)
{
    uint32_t bits = random_bits() & (HIDDEN_BIT - 1);

    if (random_bits() & 1) {
        bits &= ~((1u << random_bits() % 24) - 1);
    }
    return ((low + random_bits() % (high - low + 1)) << 23) | bits;
}

int main(void)
{
    long i;

    for (i = 0; i < 3000000; i++) {
        uint32_t a = random_number(i & 1 ? 110 : 0, 135), b = random_number(i & 1 ? 110 : 0, 135);
        volatile float sum = as_float(a) + as_float(b);
        uint32_t x = random_number(127, 150), y = random_number(0, 126);
        volatile float scaled = as_float(x) / 256.0f;
        volatile float inverse = 1.0f / scaled;
        volatile float product = as_float(y) * inverse;

        int32_t factor = (int32_t)(random_bits() >> (i & 1 ? random_bits() % 32 : 0));
        int32_t multiplier = (int32_t)(random_bits() >> 1);

        if (i < 4) {
            factor = i & 1 ? INT32_MIN : INT32_MAX;
            multiplier = i & 2 ? INT32_MAX : 0;
        }
        if (i & 4 && factor > 0) {
            factor = -factor;
        }
        if (kws_multiply_high_16(factor, multiplier) != kws_multiply_high_64(factor, multiplier)) {
            printf("%ld * %ld\n", (long)factor, (long)multiplier);
            return 1;
        }
        if (value(add(unpack(a), unpack(b))) != sum) {
            printf("%08x + %08x\n", (unsigned)a, (unsigned)b);
            return 1;
        }
        if (value(reciprocal(unpack(x))) != inverse) {
            printf("256 / %08x\n", (unsigned)x);
            return 1;
        }
        if (whole_product(unpack(y), reciprocal(unpack(x))) != (int32_t)roundf(product)) {
            printf("%08x * 256 / %08x\n", (unsigned)y, (unsigned)x);
            return 1;
        }
    }
    return 0;
}
