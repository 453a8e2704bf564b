/*
 * The stream: samples become frames, and frames events.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "kws.h"

#include <string.h>

/* Fails to compile if a state is larger than kws_config.h says. */
typedef char kws_state_is_as_small_as_promised[sizeof(kws_state) <= KWS_STATE_BYTES ? 1 : -1];

/* Forget all audio; thresholds stay. */
static void forget(kws_state *state)
{
    kws_audio_reset(&state->audio);
    kws_detector_reset(&state->detector);
    memset(&state->work, 0, sizeof state->work);
}

int kws_init(kws_state *state)
{
    if (state == NULL) {
        return KWS_ERROR_NULL;
    }
    memset(state, 0, sizeof *state);
    kws_detector_init(&state->detector);
    forget(state);
    state->mark = KWS_STATE_MARK;
    return KWS_OK;
}

int kws_reset(kws_state *state)
{
    if (state == NULL) {
        return KWS_ERROR_NULL;
    }
    if (state->mark != KWS_STATE_MARK) {
        return KWS_ERROR_NOT_INITIALISED;
    }
    forget(state);
    return KWS_OK;
}

int kws_set_threshold(kws_state *state, int keyword, uint32_t threshold_q15)
{
    if (state == NULL) {
        return KWS_ERROR_NULL;
    }
    if (state->mark != KWS_STATE_MARK) {
        return KWS_ERROR_NOT_INITIALISED;
    }
    return kws_decide_set_threshold(&state->detector.decide, keyword, threshold_q15) == 0
               ? KWS_OK
               : KWS_ERROR_THRESHOLD;
}

int kws_feed(kws_state *state, const int16_t *pcm, size_t n, kws_event *event)
{
    int result = KWS_OK;

    if (state == NULL || event == NULL || (pcm == NULL && n > 0)) {
        return KWS_ERROR_NULL;
    }
    if (state->mark != KWS_STATE_MARK) {
        return KWS_ERROR_NOT_INITIALISED;
    }
    if (n > KWS_MAX_FEED_SAMPLES) {
        return KWS_ERROR_TOO_LONG;
    }
    while (kws_audio_next_frame(&state->audio, state->work.front_end, &pcm, &n)) {
        uint16_t score_q15;
        const int label = kws_detector_take(&state->detector, state->work.network,
                                            state->audio.mfcc_q16, &score_q15);

        if (label != KWS_NO_KEYWORD) {
            event->keyword = (uint16_t)label;
            event->score_q15 = score_q15;
            event->time_samples = kws_audio_time(&state->audio);
            result = KWS_EVENT;
        }
    }
    return result;
}

uint64_t kws_frames(const kws_state *state)
{
    return state == NULL ? 0 : state->audio.frames;
}

uint64_t kws_steps(const kws_state *state)
{
    return state == NULL ? 0 : state->detector.steps;
}

const int32_t *kws_last_frame(const kws_state *state)
{
    return state == NULL ? NULL : state->audio.mfcc_q16;
}

const int8_t *kws_last_posteriors(const kws_state *state)
{
    return state == NULL ? NULL : state->detector.posteriors;
}
