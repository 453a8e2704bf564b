/*
 * The stream: collects samples into frames and frames into steps, and decides after each step.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include "kws.h"

#include <string.h>

/* Fails to compile if a state is larger than kws_model.h says. */
typedef char kws_state_is_as_small_as_promised[sizeof(kws_state) <= KWS_STATE_BYTES ? 1 : -1];

/* Forget all audio; thresholds stay. */
static void forget(kws_state *state)
{
    state->frames = 0;
    state->steps = 0;
    state->pcm_held = 0;
    state->features_held = 0;
    memset(state->mfcc_q16, 0, sizeof state->mfcc_q16);
    memset(&state->work, 0, sizeof state->work);
    memset(state->pcm, 0, sizeof state->pcm);
    memset(state->features, 0, sizeof state->features);
    memset(state->posteriors, -128, sizeof state->posteriors);
    kws_model_reset(&state->model);
    kws_decide_reset(&state->decide);
}

/* The R frames of a step are complete: run the network, decide, keep what later steps need. */
static int take_step(kws_state *state, kws_event *event)
{
    enum { KEPT = KWS_RECEPTIVE_FRAMES - KWS_STRIDE_FRAMES };
    uint16_t score_q15;
    int keyword;

    kws_model_invoke(&state->model, state->work.network, state->features, state->posteriors);
    state->steps++;
    memmove(state->features, &state->features[KWS_STRIDE_FRAMES * KWS_N_MFCC], KEPT * KWS_N_MFCC);
    state->features_held = KEPT;

    keyword = kws_decide_step(&state->decide, state->posteriors, &score_q15);
    if (keyword < 0) {
        return KWS_OK;
    }
    event->keyword = (uint16_t)keyword;
    event->score_q15 = score_q15;
    /* An event ends where the newest frame ends, which is the last of this step. */
    event->time_samples = (state->frames - 1) * KWS_HOP_LENGTH + KWS_FRAME_LENGTH;
    return KWS_EVENT;
}

/* A frame is complete: compute its features, and keep the samples that the next one shares. */
static int take_frame(kws_state *state, kws_event *event)
{
    enum { KEPT = KWS_FRAME_LENGTH - KWS_HOP_LENGTH };

    kws_frontend_frame(state->pcm, state->work.front_end, state->mfcc_q16);
    kws_frontend_quantise(state->mfcc_q16, &state->features[state->features_held * KWS_N_MFCC]);
    state->frames++;
    state->features_held++;
    memmove(state->pcm, &state->pcm[KWS_HOP_LENGTH], KEPT * sizeof state->pcm[0]);
    state->pcm_held = KEPT;

    return state->features_held == KWS_RECEPTIVE_FRAMES ? take_step(state, event) : KWS_OK;
}

int kws_init(kws_state *state)
{
    if (state == NULL) {
        return KWS_ERROR_NULL;
    }
    memset(state, 0, sizeof *state);
    kws_decide_init(&state->decide);
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
    return kws_decide_set_threshold(&state->decide, keyword, threshold_q15) == 0
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
    while (n > 0) {
        const size_t missing = KWS_FRAME_LENGTH - (size_t)state->pcm_held;
        const size_t taken = n < missing ? n : missing;

        memcpy(&state->pcm[state->pcm_held], pcm, taken * sizeof pcm[0]);
        state->pcm_held += (uint32_t)taken;
        pcm += taken;
        n -= taken;
        if (taken == missing && take_frame(state, event) == KWS_EVENT) {
            result = KWS_EVENT;
        }
    }
    return result;
}

uint64_t kws_frames(const kws_state *state)
{
    return state == NULL ? 0 : state->frames;
}

uint64_t kws_steps(const kws_state *state)
{
    return state == NULL ? 0 : state->steps;
}

const int32_t *kws_last_frame(const kws_state *state)
{
    return state == NULL ? NULL : state->mfcc_q16;
}

const int8_t *kws_last_posteriors(const kws_state *state)
{
    return state == NULL ? NULL : state->posteriors;
}
