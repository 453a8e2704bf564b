/* SPDX-License-Identifier: Apache-2.0 */
/* libFuzzer's target for the generated library: any samples, cut in any way, resets at any time.
 * `fuzz_firmware.py` builds and runs it, for libraries of one and of two models.
 *
 * The input is read as a list of actions. Two states get the same samples, one in whole chunks and
 * one in pieces, and must agree after every chunk. The sanitizers report memory and overflow errors. */
#include "kws.h"

#include <stdlib.h>
#include <string.h>

#define CHECK(condition)                                                                           \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            __builtin_trap();                                                                      \
        }                                                                                          \
    } while (0)

/* The models' newest posteriors. */
#ifdef KWS_WINDOW_SAMPLES
enum { MOST_EVENTS = 2 }; /* in a chunk, and then the second comes with the next call */
#define SAME_POSTERIORS(a, b)                                                                      \
    (memcmp(kws_last_wake_posteriors(a), kws_last_wake_posteriors(b), KWS_WAKE_N_LABELS) == 0 &&   \
     memcmp(kws_last_command_posteriors(a), kws_last_command_posteriors(b),                        \
            KWS_COMMANDS_N_LABELS) == 0)
#define NO_POSTERIORS (kws_last_wake_posteriors(NULL) == NULL && kws_is_listening(NULL) == 0)
#else
enum { MOST_EVENTS = 1 };
#define SAME_POSTERIORS(a, b)                                                                      \
    (kws_steps(a) == kws_steps(b) &&                                                               \
     memcmp(kws_last_posteriors(a), kws_last_posteriors(b), KWS_N_LABELS) == 0)
#define NO_POSTERIORS (kws_last_posteriors(NULL) == NULL && kws_steps(NULL) == 0)
#endif

typedef struct bytes {
    const uint8_t *at;
    size_t left;
} bytes;

static uint32_t take(bytes *input, size_t n)
{
    uint32_t value = 0;
    while (n-- > 0 && input->left > 0) {
        value = value << 8 | *input->at++;
        input->left--;
    }
    return value;
}

/* A state and its position in the stream. */
typedef struct listener {
    kws_state *state;
    uint64_t samples; /* since the last reset */
} listener;

static int feed(listener *who, const int16_t *pcm, size_t n, kws_event *event)
{
    /* A copy of exactly n samples, so that reading one too many is detected. */
    int16_t *copy = malloc(n * sizeof pcm[0] + (n == 0));
    kws_event told;
    memset(&told, 0xA5, sizeof told);
    if (n > 0) {
        memcpy(copy, pcm, n * sizeof pcm[0]);
    }
    const int result = kws_feed(who->state, copy, n, &told);
    free(copy);
    if (n > KWS_MAX_FEED_SAMPLES) {
        CHECK(result == KWS_ERROR_TOO_LONG);
        return result;
    }
    who->samples += n;
    CHECK(result == KWS_OK || result == KWS_EVENT);
    if (result == KWS_EVENT) {
        CHECK(told.keyword < KWS_N_LABELS);
        CHECK(told.score_q15 <= 32768u);
        CHECK(told.time_samples <= who->samples);
        *event = told;
    }
    return result;
}

static void agree(const listener *a, const listener *b)
{
    CHECK(kws_frames(a->state) == kws_frames(b->state));
    CHECK(memcmp(kws_last_frame(a->state), kws_last_frame(b->state),
                 KWS_N_MFCC * sizeof(int32_t)) == 0);
    CHECK(SAME_POSTERIORS(a->state, b->state));
    const uint64_t n = a->samples;
    const uint64_t frames =
        n < KWS_FRAME_LENGTH ? 0 : (n - KWS_FRAME_LENGTH) / KWS_HOP_LENGTH + 1;
    CHECK(kws_frames(a->state) == frames);
}

/* Feed a chunk in pieces and return how many events there were. */
static int hear_pieces(listener *who, const int16_t *pcm, size_t n, size_t piece, kws_event *events)
{
    int found = 0;
    for (size_t at = 0; at < n;) {
        const size_t size = n - at < piece ? n - at : piece;
        found += feed(who, pcm + at, size, &events[found]) == KWS_EVENT;
        CHECK(found <= MOST_EVENTS);
        at += size;
    }
    while (feed(who, pcm, 0, &events[found]) == KWS_EVENT) {
        CHECK(++found <= MOST_EVENTS);
    }
    return found;
}

/* The same chunk for both: `a` at once, `b` in pieces of at most `piece` samples. */
static void hear(listener *a, listener *b, const int16_t *pcm, size_t n, size_t piece)
{
    kws_event whole[MOST_EVENTS + 1], parts[MOST_EVENTS + 1];
    if (n > KWS_MAX_FEED_SAMPLES) {
        feed(a, pcm, n, whole);
        return;
    }
    const int found = hear_pieces(a, pcm, n, n + 1, whole);
    CHECK(hear_pieces(b, pcm, n, piece, parts) == found);
    for (int i = 0; i < found; i++) {
        CHECK(whole[i].keyword == parts[i].keyword && whole[i].score_q15 == parts[i].score_q15 &&
              whole[i].time_samples == parts[i].time_samples);
        CHECK(i == 0 || whole[i - 1].time_samples <= whole[i].time_samples);
    }
    agree(a, b);
}

static void misuse(listener *who, const int16_t *pcm)
{
    kws_event event;
    CHECK(kws_init(NULL) == KWS_ERROR_NULL && kws_reset(NULL) == KWS_ERROR_NULL);
    CHECK(kws_feed(NULL, pcm, 1, &event) == KWS_ERROR_NULL);
    CHECK(kws_feed(who->state, NULL, 1, &event) == KWS_ERROR_NULL);
    CHECK(kws_feed(who->state, pcm, 1, NULL) == KWS_ERROR_NULL);
    CHECK(kws_feed(who->state, NULL, 0, &event) == KWS_OK);
    CHECK(kws_last_frame(NULL) == NULL && kws_frames(NULL) == 0 && NO_POSTERIORS);
}

/* Noise, square waves, steps and silence need few bytes of input; other samples are read from it. */
static size_t samples(bytes *input, uint32_t kind, int16_t *pcm, size_t most)
{
    const size_t n = take(input, 2) % (most + 1);
    const uint32_t amplitude = take(input, 2);
    uint32_t seed = take(input, 4) | 1u;
    for (size_t i = 0; i < n; i++) {
        int32_t value = 0;
        seed = seed * 1664525u + 1013904223u;
        switch (kind % 5) {
        case 0:
            value = (int16_t)take(input, 2);
            break;
        case 1:
            value = (int32_t)(((int64_t)(int32_t)seed * (int64_t)amplitude) >> 32);
            break;
        case 2:
            value = i % (1 + amplitude % 200) < (1 + amplitude % 200) / 2 ? 32767 : -32768;
            break;
        case 3:
            value = (int16_t)amplitude;
            break;
        default:
            break;
        }
        pcm[i] = (int16_t)value;
    }
    return n;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    enum { MOST = KWS_MAX_FEED_SAMPLES + 3, STREAM = 2 * 16000 };
    bytes input = {data, size};
    int16_t *pcm = malloc(MOST * sizeof *pcm);
    listener a = {malloc(sizeof(kws_state)), 0}, b = {malloc(sizeof(kws_state)), 0};
    uint64_t heard = 0;
    kws_event event;

    /* Arbitrary memory, which the library must recognise as not initialised. */
    memset(a.state, (int)take(&input, 1), sizeof *a.state);
    memset(b.state, 0, sizeof *b.state);
    CHECK(kws_reset(a.state) == KWS_ERROR_NOT_INITIALISED);
    CHECK(kws_feed(a.state, NULL, 0, &event) == KWS_ERROR_NOT_INITIALISED);
    CHECK(kws_init(a.state) == KWS_OK && kws_init(b.state) == KWS_OK);
    misuse(&a, pcm);

    while (input.left > 0 && heard < STREAM) {
        const uint32_t action = take(&input, 1);
        if (action >= 250) {
            CHECK(kws_reset(a.state) == KWS_OK && kws_reset(b.state) == KWS_OK);
            a.samples = b.samples = 0;
            agree(&a, &b);
            continue;
        }
        const size_t piece = 1 + take(&input, 2) % 900;
        const size_t n = samples(&input, action, pcm, MOST);
        hear(&a, &b, pcm, n, piece);
        heard += n;
    }
    free(pcm);
    free(a.state);
    free(b.state);
    return 0;
}
