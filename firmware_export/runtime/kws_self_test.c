/*
 * SPDX-License-Identifier: Apache-2.0
 */
#include "kws_self_test.h"

#include <string.h>

#include "kws_golden.h"

#define CHUNK 160 /* most samples for a call of kws_feed, which takes at most KWS_HOP_LENGTH here */

/* State of the voice between two chunks. */
typedef struct voice {
    int32_t y[3][2];      /* the resonators' last two outputs, at most 32767 */
    uint32_t random;      /* xorshift32 */
    uint32_t since_pulse; /* samples */
    uint32_t sound;       /* index into kws_golden_sounds */
    uint32_t said;        /* samples of this sound so far */
} voice;

static int32_t limit(int32_t x, int32_t low, int32_t high)
{
    return x < low ? low : x > high ? high : x;
}

static uint32_t next_random(uint32_t x)
{
    x ^= x << 13;
    x ^= x >> 17;
    return x ^ (x << 5);
}

/* The next sample. No product exceeds 31 bits: |y| < 2^15, |a| <= 2^15, b <= 2^14. */
static int16_t next_sample(voice *v)
{
    static const int32_t gain[3] = {20, -12, 7};
    const kws_sound *s = &kws_golden_sounds[v->sound];
    int32_t x, mixed = 0;
    int k;

    v->random = next_random(v->random);
    v->since_pulse = v->since_pulse + 1 < s->period ? v->since_pulse + 1 : 0;
    if (s->period == 0) {
        x = (int32_t)(v->random >> 24) - 128;
    } else {
        x = v->since_pulse == 0 ? 1500 : 0;
    }
    for (k = 0; k < 3; k++) {
        int32_t *y = v->y[k];
        const int32_t now = x + (s->a[k] * y[0] - s->b[k] * y[1]) / 16384;

        y[1] = y[0];
        y[0] = limit(now, -32767, 32767);
        mixed += gain[k] * y[0];
    }
    if (++v->said == s->samples) {
        v->said = 0;
        v->sound++;
    }
    x = mixed * s->loudness / 2048 + (int32_t)((v->random >> 8) & 63) - 32;
    return (int16_t)limit(x, -32768, 32767);
}

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

static int same_event(const kws_event *event, const kws_golden_event *expected, uint32_t when)
{
    return event->keyword == expected->keyword && event->score_q15 == expected->score_q15 &&
           when == expected->when;
}

/* Check the results of the latest call of kws_feed, which took at most one hop. */
static int check_feed(const kws_state *state, uint32_t frames, uint32_t steps)
{
    if (kws_frames(state) != frames &&
        checksum(kws_last_frame(state), KWS_N_MFCC) != kws_golden_frames[frames]) {
        return KWS_ERROR_FRONT_END;
    }
    if (kws_steps(state) != steps &&
        memcmp(kws_last_posteriors(state), &kws_golden_posteriors[steps * KWS_N_LABELS],
               KWS_N_LABELS) != 0) {
        return KWS_ERROR_NETWORK;
    }
    return KWS_OK;
}

static int check_stream(kws_state *state)
{
    voice v = {{{0, 0}, {0, 0}, {0, 0}}, 1, 0, 0, 0};
    int16_t pcm[CHUNK];
    uint32_t events = 0, length = 0;

    while (v.sound < KWS_GOLDEN_SOUNDS) {
        /* Chunks of varying length: how the stream is cut must not matter. */
        const uint32_t most = CHUNK < KWS_HOP_LENGTH ? CHUNK : KWS_HOP_LENGTH;
        const uint32_t frames = (uint32_t)kws_frames(state), steps = (uint32_t)kws_steps(state);
        kws_event event;
        uint32_t n = 0;
        int result;

        length = (length + 37) % most;
        while (n <= length && v.sound < KWS_GOLDEN_SOUNDS) {
            pcm[n++] = next_sample(&v);
        }
        result = kws_feed(state, pcm, n, &event);
        if (result < 0) {
            return result;
        }
        if (result == KWS_EVENT) {
            /* The list ends with an event that never occurs. */
            if (same_event(&event, &kws_golden_events[events], (uint32_t)event.time_samples)) {
                events++;
            } else {
                result = KWS_ERROR_DECISION;
            }
        }
        /* An event may differ because an earlier stage does: return the first stage that differs. */
        if (check_feed(state, frames, steps) != KWS_OK) {
            return check_feed(state, frames, steps);
        }
        if (result < 0) {
            return result;
        }
    }
    if (kws_frames(state) != KWS_GOLDEN_FRAMES) {
        return KWS_ERROR_FRONT_END;
    }
    if (kws_steps(state) != KWS_GOLDEN_STEPS) {
        return KWS_ERROR_NETWORK;
    }
    return events == KWS_GOLDEN_EVENTS ? KWS_OK : KWS_ERROR_DECISION;
}

/* Posteriors of one step: noise, and keyword k at about `level`; at level 255 the next one too. */
static uint32_t make_posteriors(int8_t *posteriors, uint32_t k, int32_t level, uint32_t random)
{
    int label;

    for (label = 0; label < KWS_N_LABELS; label++) {
        random = next_random(random);
        posteriors[label] = (int8_t)((int32_t)(random >> 29) - 128);
    }
    if (level == 255) {
        label = kws_keyword_label[(k + 1) % KWS_N_KEYWORDS];
        posteriors[label] = (int8_t)(127 - (int32_t)(random >> 29));
        random = next_random(random);
        level -= (int32_t)(random >> 29);
    }
    posteriors[kws_keyword_label[k]] = (int8_t)(level - 128);
    return random;
}

/*
 * Each keyword in turn has a posterior near 1, together with the next, for as long as two events
 * need. Then it falls, less in each round: while it stays above its release limit it must not fire
 * again.
 */
static int check_decisions(kws_decide_state *decide)
{
    uint32_t events = 0, random = 1, step = 0, k, round, i;

    kws_decide_init(decide);
    for (k = 0; k < KWS_N_KEYWORDS; k++) {
        for (round = 0; round < KWS_GOLDEN_ROUNDS; round++) {
            for (i = 0; i < 2 * KWS_GOLDEN_STRETCH; i++, step++) {
                const int32_t dip = (int32_t)(round * 255 / KWS_GOLDEN_ROUNDS);
                int8_t posteriors[KWS_N_LABELS];
                kws_event event;
                int label;

                random = make_posteriors(posteriors, k, i < KWS_GOLDEN_STRETCH ? 255 : dip, random);
                label = kws_decide_step(decide, posteriors, &event.score_q15);
                if (label == KWS_NO_KEYWORD) {
                    continue;
                }
                event.keyword = (uint16_t)label;
                if (!same_event(&event, &kws_golden_decisions[events], step)) {
                    return KWS_ERROR_DECISION;
                }
                events++;
            }
        }
    }
    return events == KWS_GOLDEN_DECISIONS ? KWS_OK : KWS_ERROR_DECISION;
}

int kws_self_test(kws_state *state)
{
    int result = kws_init(state);

    if (result == KWS_OK) {
        result = check_stream(state);
    }
    if (result == KWS_OK) {
        result = check_decisions(&state->decide);
    }
    kws_init(state);
    return result;
}
