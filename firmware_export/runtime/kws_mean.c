/*
 * SPDX-License-Identifier: Apache-2.0
 */
#include "kws_kernels.h"

#include "kws_fixed_point.h"

void kws_mean_s8(const kws_mean *p, const int8_t *in, int8_t *out)
{
    int32_t outer, inner, i;

    for (outer = 0; outer < p->outer; outer++, in += p->count * p->inner) {
        for (inner = 0; inner < p->inner; inner++) {
            int32_t sum = p->offset;

            for (i = 0; i < p->count; i++) {
                sum += in[i * p->inner + inner];
            }
            sum = kws_scale(sum, p->multiplier, (int)p->shift, inner < p->inner_up);
            *out++ = (int8_t)kws_clamp(kws_clamp(sum, -(1 << 24), 1 << 24) + p->bias, -128, 127);
        }
    }
}
