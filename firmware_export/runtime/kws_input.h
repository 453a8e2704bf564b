/*
 * From the MFCC of a frame to the input of a network.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef KWS_INPUT_H
#define KWS_INPUT_H

#include <stdint.h>

#include "kws_tables.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Normalisation and int8 quantisation in one: int8 = (mfcc_q16 - centre) * gain / 2^shift. */
extern const int32_t kws_input_centre_q16[KWS_N_MFCC]; /* MFCC that becomes 0, Q16 */
extern const int32_t kws_input_gain[KWS_N_MFCC];
extern const uint8_t kws_input_shift[KWS_N_MFCC]; /* 1..62 */

/*
 * Normalise, quantise and saturate one frame.
 *
 * mfcc_q16  int32 [KWS_N_MFCC]
 * out       int8 [KWS_N_MFCC], written
 */
void kws_input_quantise(const int32_t *mfcc_q16, int8_t *out);

#ifdef __cplusplus
}
#endif

#endif
