/*
 * SPDX-License-Identifier: Apache-2.0
 */
#include "kws_self_test.h"

#include "kws_check.h"
#include "kws_golden.h"
#include "kws_voice.h"

#define CHUNK 160 /* most samples for a call of kws_feed, which takes at most KWS_HOP_LENGTH here */

/* FNV-1a over the values of a frame, 32 bits at a time. */
static uint32_t checksum(const int32_t *values, int n)
{
    uint32_t sum = 2166136261u;
    int i;

    for (i = 0; i < n; i++) {
        sum = (sum ^ (uint32_t)values[i]) * 16777619u;
    }
    return sum;
}

static int is_expected(const kws_event *event, uint32_t number)
{
    /* The list ends with an event that never occurs. */
    const kws_golden_event *const expected = &kws_golden_events[number];

    return event->keyword == expected->keyword && event->score_q15 == expected->score_q15 &&
           event->time_samples == expected->when;
}

/* Check the results of the latest call of kws_feed, which took at most one hop. */
static int check_feed(const kws_state *state, uint32_t frames, const kws_check *before)
{
    if (kws_frames(state) != frames &&
        checksum(kws_last_frame(state), KWS_N_MFCC) != kws_golden_frames[frames]) {
        return KWS_ERROR_FRONT_END;
    }
    return kws_check_posteriors(before, state) ? KWS_OK : KWS_ERROR_NETWORK;
}

static int check_stream(kws_state *state)
{
    kws_voice voice = {{{0, 0}, {0, 0}, {0, 0}}, 1, 0, 0, 0};
    int16_t pcm[CHUNK];
    kws_event event;
    uint32_t events = 0, length = 0;

    while (voice.sound < KWS_GOLDEN_SOUNDS) {
        /* Chunks of varying length: how the stream is cut must not matter. */
        const uint32_t most = CHUNK < KWS_HOP_LENGTH ? CHUNK : KWS_HOP_LENGTH;
        const uint32_t frames = (uint32_t)kws_frames(state);
        kws_check before;
        uint32_t n = 0;
        int result;

        kws_check_before(&before, state);
        length = (length + 37) % most;
        while (n <= length && voice.sound < KWS_GOLDEN_SOUNDS) {
            pcm[n++] = kws_voice_next(&voice);
        }
        result = kws_feed(state, pcm, n, &event);
        if (result < 0) {
            return result;
        }
        if (result == KWS_EVENT && !is_expected(&event, events++)) {
            result = KWS_ERROR_DECISION;
        }
        /* An event may differ because an earlier stage does: return the first stage that differs. */
        if (check_feed(state, frames, &before) != KWS_OK) {
            return check_feed(state, frames, &before);
        }
        if (result < 0) {
            return result;
        }
    }
    if (kws_frames(state) != KWS_GOLDEN_FRAMES) {
        return KWS_ERROR_FRONT_END;
    }
    if (!kws_check_steps(state)) {
        return KWS_ERROR_NETWORK;
    }
    /* With two models the last call may leave an event for another. */
    if (kws_feed(state, NULL, 0, &event) == KWS_EVENT && !is_expected(&event, events++)) {
        return KWS_ERROR_DECISION;
    }
    return events == KWS_GOLDEN_EVENTS ? KWS_OK : KWS_ERROR_DECISION;
}

int kws_self_test(kws_state *state)
{
    int result = kws_init(state);

    if (result == KWS_OK) {
        result = check_stream(state);
    }
    if (result == KWS_OK && !kws_check_decisions(state)) {
        result = KWS_ERROR_DECISION;
    }
    kws_init(state);
    return result;
}
