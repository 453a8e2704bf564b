/* SPDX-License-Identifier: Apache-2.0
 *
 * Front end: one frame of int16 audio -> MFCC. Integers only.
 *
 *   spectrum -> magnitude -> mel filters -> natural logarithm, clamped -> DCT-II
 *
 * Bit for bit the same as the Python package's `firmware_export.fixed_front_end`.
 */
#ifndef KWS_FRONTEND_H
#define KWS_FRONTEND_H

#include <stdint.h>

#include "kws_tables.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Words of scratch memory for kws_frontend_frame, not needed between calls. */
#define KWS_FRONTEND_WORK_WORDS KWS_FRAME_LENGTH

/* Tables, see kws_tables.c. */

/* Square root: 4096 * sqrt(i + 32), i = 0..224 */
extern const uint16_t kws_root[225];
/* ln(1 + i / 128), Q16, i = 0..128 */
extern const uint16_t kws_ln_q16[129];
/* The corners of the mel filters divide the bins of the FFT, from bin KWS_MEL_FIRST_BIN on, into
 * KWS_N_MELS + 1 runs: the number of bins in each. In run m filter m rises and filter m - 1
 * falls. */
extern const uint16_t kws_mel_bins[KWS_N_MELS + 1];
/* For each of these bins the weight in the rising filter, Q16; in the falling one it is 1 minus
 * that. */
extern const uint16_t kws_mel_weight_q16[KWS_MEL_WEIGHTS];
/* First half (and middle) of the rows of the DCT [KWS_N_MFCC][(KWS_N_MELS + 1) / 2], Q(14 +
 * KWS_DCT_SHIFT). The second half of an even row mirrors it; that of an odd row mirrors and negates
 * it. */
extern const int16_t kws_dct[KWS_N_MFCC * ((KWS_N_MELS + 1) / 2)];
/* MFCC of one frame.
 *
 * frame     int16 [KWS_FRAME_LENGTH]
 * work      int32 [KWS_FRONTEND_WORK_WORDS], overwritten
 * mfcc_q16  int32 [KWS_N_MFCC], written: coefficient * 65536
 */
void kws_frontend_frame(const int16_t frame[KWS_FRAME_LENGTH],
                        int32_t work[KWS_FRONTEND_WORK_WORDS], int32_t mfcc_q16[KWS_N_MFCC]);

#ifdef __cplusplus
}
#endif

#endif
