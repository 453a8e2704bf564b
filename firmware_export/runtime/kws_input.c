/*
 * SPDX-License-Identifier: Apache-2.0
 */
#include "kws_input.h"

void kws_input_quantise(const int32_t *mfcc_q16, int8_t *out)
{
    int k;

    for (k = 0; k < KWS_N_MFCC; k++) {
        const int shift = kws_input_shift[k];
        const int64_t x = (int64_t)mfcc_q16[k] - kws_input_centre_q16[k];
        /* Keeps the sign, see kws_floor_shift. */
        const int64_t q = (x * kws_input_gain[k] + ((int64_t)1 << (shift - 1))) >> shift;

        out[k] = (int8_t)(q < -128 ? -128 : q > 127 ? 127 : q);
    }
}
