/*
 * SPDX-License-Identifier: Apache-2.0
 */
#include "kws_decide.h"

#include <string.h>

void kws_decide_init(kws_decide_state *state)
{
    memcpy(state->fire_from, kws_fire_from, sizeof state->fire_from);
    memcpy(state->release_below, kws_release_below, sizeof state->release_below);
    kws_decide_reset(state);
}

void kws_decide_reset(kws_decide_state *state)
{
    memset(state->sum, 0, sizeof state->sum);
    memset(state->window, 0, sizeof state->window);
    memset(state->armed, 1, sizeof state->armed);
    state->next = 0;
    state->quiet_steps = 0;
}

int kws_decide_set_threshold(kws_decide_state *state, int label, uint32_t threshold_q15)
{
    int k;

    if (threshold_q15 < 1 || threshold_q15 > 32768) {
        return -1;
    }
    for (k = 0; k < KWS_N_KEYWORDS; k++) {
        if (kws_keyword_label[k] == label) {
            /* Limits are sums of posteriors in 1/256, rounded up: 256 / 32768 = 1 / 128. */
            const uint64_t sum_q15 = (uint64_t)threshold_q15 * KWS_WINDOW_STEPS;

            state->fire_from[k] = (uint32_t)((sum_q15 + 127) >> 7);
            state->release_below[k] = (uint32_t)((sum_q15 * KWS_RELEASE_Q15 + 0x3FFFFF) >> 22);
            return 0;
        }
    }
    return -1;
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
        if (state->sum[k] < state->release_below[k]) {
            state->armed[k] = 1;
        }
    }
    if (state->quiet_steps > 0) {
        state->quiet_steps--;
        return KWS_NO_KEYWORD;
    }
    for (k = 0; k < KWS_N_KEYWORDS; k++) {
        if (state->armed[k] && state->sum[k] >= state->fire_from[k] &&
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
