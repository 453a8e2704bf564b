/*
 * SPDX-License-Identifier: Apache-2.0
 */
#include "kws_kernels.h"

#include <string.h>

void kws_pad_s8(const kws_pad *p, const int8_t *in, int8_t *out)
{
    int32_t i0, i1, i2, i3;

    memset(out, (int)p->value, (size_t)p->size);
    out += p->first;
    for (i0 = 0; i0 < p->count0; i0++) {
        for (i1 = 0; i1 < p->count1; i1++) {
            for (i2 = 0; i2 < p->count2; i2++) {
                for (i3 = 0; i3 < p->count3; i3++) {
                    out[i0 * p->step0 + i1 * p->step1 + i2 * p->step2 + i3 * p->step3] = *in++;
                }
            }
        }
    }
}
