/*
 * SPDX-License-Identifier: Apache-2.0
 */
#include "kws_kernels.h"

#include "kws_fixed_point.h"

void kws_quantize_s8(const kws_quantize *p, const int8_t *in, int8_t *out)
{
    int32_t i;

    for (i = 0; i < p->size; i++) {
        int32_t value = kws_scale(in[i] - p->input_zero_point, p->multiplier, (int)p->shift,
                                  i < p->size_up);

        out[i] = (int8_t)kws_clamp(value + p->output_zero_point, -128, 127);
    }
}
