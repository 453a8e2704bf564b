/*
 * One LSTM layer (Hochreiter & Schmidhuber, 1997):
 *
 *   i, f, o = sigmoid(W x + R h + b)    g = tanh(W x + R h + b)    each with its own weights
 *   c = f * c + i * g                   h = o * tanh(c)
 *
 * x and h are int8; the gates are Q3.12 before their function and Q0.15 after it; the cell c is
 * int16 with a power of two as its scale. The functions are gemmlowp's in 16 bits: e^x from a
 * polynomial and powers, then a division by Newton's method. Values of 16 bits are computed in 32;
 * the stated ranges keep every intermediate result within 16 bits, and tests compare all 65,536
 * inputs.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "kws_kernels.h"

#include <string.h>

#include "kws_dot.h"
#include "kws_fixed_point.h"

#define ONE 32767 /* 1 in Q0.15, as close as possible */

/* a * b in Q0.15, rounded to nearest, halves up. */
static inline int32_t multiply(int32_t a, int32_t b)
{
    return kws_shift_right(a * b + (1 << 14), 15);
}

/* e^a for a in [-1/4, 0), Q0.15: the series around -1/8, up to the fourth power. */
static int32_t exp_of_last_quarter(int32_t a)
{
    const int32_t exp_of_minus_eighth = 28918; /* Q0.15 */
    const int32_t third = 10923;               /* Q0.15 */
    int32_t x = a + (1 << 12);
    int32_t x2 = multiply(x, x);
    int32_t x3 = multiply(x2, x);
    int32_t x4 = multiply(x2, x2);
    /* x^2 / 2 + x^3 / 6 + x^4 / 24 */
    int32_t rest = kws_round_shift(multiply(kws_round_shift(x4, 2) + x3, third) + x2, 1);
    int32_t result = exp_of_minus_eighth + multiply(exp_of_minus_eighth, x + rest);

    return result > ONE ? ONE : result;
}

/* e^a in Q0.15 for a < 0 with `bits` bits before the point and 15 - bits behind it. */
static int32_t exp_of_negative(int32_t a, int bits)
{
    const int32_t quarter = (int32_t)1 << (13 - bits);
    const int32_t last = (a & (quarter - 1)) - quarter; /* in [-1/4, 0) */
    const int32_t quarters = kws_shift_right(last - a, 13 - bits);
    int32_t result;

    if (bits > 5 && a < -((int32_t)32 << (15 - bits))) {
        return 0;
    }
    result = exp_of_last_quarter(last * ((int32_t)1 << bits));
    if (quarters & 1) {
        result = multiply(result, 25520); /* e^-(1/4) */
    }
    if (quarters & 2) {
        result = multiply(result, 19875); /* e^-(1/2) */
    }
    if (quarters & 4) {
        result = multiply(result, 12055); /* e^-1 */
    }
    if (quarters >= 8) {
        if (quarters & 8) {
            result = multiply(result, 4435); /* e^-2 */
        }
        if (quarters & 16) {
            result = multiply(result, 600); /* e^-4 */
        }
        if (quarters & 32) {
            result = multiply(result, 11); /* e^-8 */
        }
        if (quarters & 64) {
            result = 0; /* e^-16 */
        }
    }
    return result;
}

/* A better approximation x of 1 / half, Q2.13, by Newton's method. */
static inline int32_t improve(int32_t x, int32_t half)
{
    return x + multiply(x, (1 << 13) - multiply(half, x)) * 4;
}

/* 2 / (1 + a) in Q2.13 for a in [0, 1], Q0.15. */
static int32_t two_over_one_plus(int32_t a)
{
    const int32_t half = (a + ONE + 1) >> 1;          /* (1 + a) / 2 */
    const int32_t x = 23130 + multiply(half, -15420); /* 48/17 - 32/17 half, the best first guess */

    return improve(improve(improve(x, half), half), half);
}

/* sigmoid(a) = 1 / (1 + e^-a) in Q0.15 for a in Q3.12. */
static int32_t sigmoid(int32_t a)
{
    int32_t y;

    if (a == 0) {
        return 1 << 14;
    }
    y = 2 * two_over_one_plus(exp_of_negative(a < 0 ? a : -a, 3));
    y = y > ONE ? ONE : y;
    return a > 0 ? y : ONE - y;
}

/* tanh(a) in Q0.15 for a with `bits` bits before the point: 2 / (1 + e^-2|a|) - 1. */
static int32_t tanh_of(int32_t a, int bits)
{
    int32_t y;

    if (a == 0) {
        return 0;
    }
    /* With one more bit before the point, the same number is 2 a. */
    y = 4 * (two_over_one_plus(exp_of_negative(a < 0 ? a : -a, bits + 1)) - (1 << 13));
    y = y > ONE ? ONE : y;
    return a < 0 ? -y : y;
}

static inline int32_t clamp16(int32_t x)
{
    return kws_clamp(x, INT16_MIN, INT16_MAX);
}

void kws_lstm_s8(const kws_lstm *p, const int8_t *in, int8_t *out, int8_t *hidden, int16_t *cell)
{
    int32_t step, unit;
    int gate;

    for (step = 0; step < p->steps; step++, in += p->inputs, out += p->units) {
        for (unit = 0; unit < p->units; unit++) {
            int32_t from_input[4], from_hidden[4], gates[4];
            int32_t state, value;

            memcpy(from_input, p->input_bias + 4 * unit, sizeof from_input);
            memcpy(from_hidden, p->hidden_bias + 4 * unit, sizeof from_hidden);
            kws_dot_rows_s8(in, p->input_weights + 4 * unit * p->inputs, p->inputs, p->inputs, 4,
                            from_input);
            kws_dot_rows_s8(hidden, p->hidden_weights + 4 * unit * p->units, p->units, p->units, 4,
                            from_hidden);
            for (gate = 0; gate < 4; gate++) {
                value = clamp16(kws_scale_away(from_input[gate], p->input_multipliers[gate],
                                                p->input_shifts[gate]));
                value = clamp16(value + kws_scale_away(from_hidden[gate],
                                                        p->hidden_multipliers[gate],
                                                        p->hidden_shifts[gate]));
                gates[gate] = gate == 2 ? tanh_of(value, 3) : sigmoid(value);
            }
            state = kws_round_shift(gates[1] * cell[unit], 15) +
                    kws_round_shift(gates[0] * gates[2], (int)p->product_shift);
            state = kws_clamp(state, p->cell_min, p->cell_max);
            cell[unit] = (int16_t)state;
            value = gates[3] * tanh_of(state, (int)p->cell_integer_bits);
            value = kws_scale_away(value, p->output_multiplier, (int)p->output_shift);
            value += p->output_zero_point;
            out[unit] = (int8_t)kws_clamp(value, INT8_MIN, INT8_MAX);
        }
        memcpy(hidden, out, (size_t)p->units);
    }
}
