/*
 * SPDX-License-Identifier: Apache-2.0
 */
#include "kws_kernels.h"

#include "kws_fixed_point.h"

#define LEFT_SHIFT 20 /* fractional bits of the common scale of both inputs */

/*
 * x in that scale; shift <= 0. In whole blocks of 16 elements LiteRT shifts before it multiplies;
 * in the remainder it shifts afterwards, which rounds once more.
 */
static int32_t bring(int32_t x, int32_t multiplier, int shift, int in_block)
{
    if (!in_block) {
        return kws_scale_away(x * ((int32_t)1 << LEFT_SHIFT), multiplier, shift);
    }
    shift += LEFT_SHIFT;
    x = shift >= 0 ? x * ((int32_t)1 << shift) : kws_shift_right(x, -shift);
    return kws_multiply_high(x, multiplier);
}

void kws_add_s8(const kws_add *p, const int8_t *in1, int8_t *out, const int8_t *in2)
{
    int32_t i;

    for (i = 0; i < p->size; i++) {
        const int in_block = i < p->size_up;
        int32_t sum = bring(in1[i] - p->input1_zero_point, p->input1_multiplier,
                            (int)p->input1_shift, in_block) +
                      bring(in2[i] - p->input2_zero_point, p->input2_multiplier,
                            (int)p->input2_shift, in_block);

        sum = kws_scale_away(sum, p->output_multiplier, (int)p->output_shift);
        out[i] = (int8_t)kws_clamp(sum + p->output_zero_point, p->output_min, p->output_max);
    }
}
