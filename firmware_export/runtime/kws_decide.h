/*
 * From posteriors to events, in integer arithmetic.
 *
 * For every keyword the posteriors of the last KWS_WINDOW_STEPS steps are summed. A keyword whose
 * sum is below its release limit becomes armed (all start armed). Of the armed keywords whose sum
 * has reached their firing limit, the one with the largest sum fires (the first in label order if
 * equal), unless the last event is KWS_REFRACTORY_STEPS steps or less ago. It is then no longer
 * armed, so one long word is one event.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef KWS_DECIDE_H
#define KWS_DECIDE_H

#include <stdint.h>

#include "kws_model.h"

#ifdef __cplusplus
extern "C" {
#endif

#define KWS_NO_KEYWORD (-1)

/* State of the decisions. Posteriors are in units of 1/256: 0 to 255. */
typedef struct kws_decide_state {
    uint32_t fire_from[KWS_N_KEYWORDS];     /* lowest sum at which each keyword fires */
    uint32_t release_below[KWS_N_KEYWORDS]; /* sum below which it may fire again */
    uint32_t sum[KWS_N_KEYWORDS];  /* over the window, for each keyword, 0 to 255 * KWS_WINDOW_STEPS */
    uint32_t next;                 /* row of window that the next step overwrites */
    uint32_t quiet_steps;          /* remaining steps in which nothing fires */
    uint8_t armed[KWS_N_KEYWORDS]; /* 1: may fire; 0: has fired and not been released since */
    uint8_t window[KWS_WINDOW_STEPS][KWS_N_KEYWORDS]; /* the posteriors in sum */
} kws_decide_state;

/* Set the model's own limits and begin a stream. */
void kws_decide_init(kws_decide_state *state);

/* Begin a stream, keeping the limits. Posteriors before its beginning count as 0. */
void kws_decide_reset(kws_decide_state *state);

/*
 * Make the keyword of this label fire at a mean posterior of threshold_q15, 1 to 32768 (1.0, which
 * none reaches), and release it at the model's share of that. Returns 0, or -1 if the label is not
 * a keyword or the threshold is out of range; then nothing changes.
 */
int kws_decide_set_threshold(kws_decide_state *state, int label, uint32_t threshold_q15);

/*
 * Take the posteriors of the next step, int8 [KWS_N_LABELS], probability = (value + 128) / 256.
 * Returns the label that fires (and writes its mean posterior, Q15, rounded down), or
 * KWS_NO_KEYWORD.
 */
int kws_decide_step(kws_decide_state *state, const int8_t *posteriors, uint16_t *score_q15);

#ifdef __cplusplus
}
#endif

#endif
