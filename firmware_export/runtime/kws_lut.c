/*
 * SPDX-License-Identifier: Apache-2.0
 */
#include "kws_kernels.h"

void kws_lut_s8(const kws_lut *p, const int8_t *in, int8_t *out)
{
    int32_t i;

    for (i = 0; i < p->size; i++) {
        out[i] = p->table[in[i] + 128];
    }
}
