/*
 * SPDX-License-Identifier: Apache-2.0
 */
#include "kws_kernels.h"

#include "kws_dot.h"
#include "kws_fixed_point.h"

void kws_fully_connected_s8(const kws_fully_connected *p, const int8_t *in, int8_t *out)
{
    int32_t row, unit, i;

    for (row = 0; row < p->rows; row++, in += p->depth) {
        for (unit = 0; unit < p->units; unit += 4) {
            const int32_t left = p->units - unit;
            const int32_t n = left < 4 ? left : 4;
            int32_t sums[4];

            for (i = 0; i < n; i++) {
                sums[i] = p->bias[unit + i];
            }
            kws_dot_rows_s8(in, p->weights + unit * p->depth, p->depth, p->depth, n, sums);
            for (i = 0; i < n; i++) {
                int32_t value =
                    kws_scale_up(sums[i], p->multipliers[unit + i], p->shifts[unit + i]);

                value = kws_clamp(value, -1024, 1024) + p->output_zero_point;
                *out++ = (int8_t)kws_clamp(value, p->output_min, p->output_max);
            }
        }
    }
}
