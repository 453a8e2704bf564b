/*
 * SPDX-License-Identifier: Apache-2.0
 */
#include "kws_decide.h"

#include <string.h>

void kws_decide_reset(kws_decide_state *state)
{
    memset(state, 0, sizeof *state);
    memset(state->armed, 1, sizeof state->armed);
}

int kws_decide_step(kws_decide_state *state, const int8_t *posteriors, uint16_t *score_q15)
{
    uint8_t *const row = state->window[state->next];
    int winner = KWS_NO_KEYWORD;
    int k;

    state->next = state->next + 1 < KWS_WINDOW_STEPS ? state->next + 1 : 0;
    for (k = 0; k < KWS_N_KEYWORDS; k++) {
        const uint8_t posterior = (uint8_t)(posteriors[kws_keyword_label[k]] + 128);

        state->sum[k] = state->sum[k] + posterior - row[k];
        row[k] = posterior;
        if (state->sum[k] < kws_release_below[k]) {
            state->armed[k] = 1;
        }
    }
    if (state->quiet_steps > 0) {
        state->quiet_steps--;
        return KWS_NO_KEYWORD;
    }
    for (k = 0; k < KWS_N_KEYWORDS; k++) {
        if (state->armed[k] && state->sum[k] >= kws_fire_from[k] &&
            (winner < 0 || state->sum[k] > state->sum[winner])) {
            winner = k;
        }
    }
    if (winner < 0) {
        return KWS_NO_KEYWORD;
    }
    state->armed[winner] = 0;
    state->quiet_steps = KWS_REFRACTORY_STEPS;
    /* 32768 / 256 = 128; the sum is at most 255 * KWS_WINDOW_STEPS, so nothing overflows. */
    *score_q15 = (uint16_t)(state->sum[winner] * 128u / KWS_WINDOW_STEPS);
    return kws_keyword_label[winner];
}
