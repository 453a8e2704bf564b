/*
 * SPDX-License-Identifier: Apache-2.0
 */
#include "kws_kernels.h"

void kws_strided_slice_s8(const kws_strided_slice *p, const int8_t *in, int8_t *out)
{
    int32_t i0, i1, i2, i3;

    in += p->first;
    for (i0 = 0; i0 < p->count0; i0++) {
        for (i1 = 0; i1 < p->count1; i1++) {
            for (i2 = 0; i2 < p->count2; i2++) {
                for (i3 = 0; i3 < p->count3; i3++) {
                    *out++ = in[i0 * p->step0 + i1 * p->step1 + i2 * p->step2 + i3 * p->step3];
                }
            }
        }
    }
}
