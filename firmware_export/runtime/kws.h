/*
 * Keyword spotting: 16-bit audio in, events out.
 *
 *     static kws_state state;             at most KWS_STATE_BYTES
 *     kws_event event;
 *
 *     kws_init(&state);
 *     while (microphone_read(pcm, n)) {
 *         if (kws_feed(&state, pcm, n, &event) == KWS_EVENT) {
 *             printf("%s\n", kws_labels[event.keyword]);
 *         }
 *     }
 *
 * The library allocates nothing, keeps nothing between calls outside `kws_state`, and uses no
 * floating point. One state is one stream of audio. Several states may be used side by side, also
 * from several threads, but each by only one thread at a time.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef KWS_H
#define KWS_H

#include <limits.h>
#include <stddef.h>
#include <stdint.h>

#if INT_MAX < 2147483647
#error "This library is for processors of 32 bits or more."
#endif

#include "kws_audio.h"
#include "kws_config.h"
#include "kws_detector.h"
#include "kws_event.h"

#ifdef __cplusplus
extern "C" {
#endif

/* New samples for each step of the network. */
#define KWS_STEP_SAMPLES (KWS_STRIDE_FRAMES * KWS_HOP_LENGTH)

/*
 * The most samples that one call of kws_feed takes. They hold at most one event, because nothing
 * fires for KWS_REFRACTORY_STEPS steps after an event.
 */
#define KWS_MAX_FEED_SAMPLES ((KWS_REFRACTORY_STEPS + 1) * KWS_STEP_SAMPLES)

/*
 * All that the library remembers. Its size is known at compile time: sizeof(kws_state), at most
 * KWS_STATE_BYTES. It may be static, part of your own structure or on a large stack, and needs no
 * special alignment. The fields are private.
 */
typedef struct kws_state {
    kws_audio audio;       /* samples and the newest frame */
    kws_detector detector; /* network and decisions */
    uint32_t mark;         /* KWS_STATE_MARK once kws_init has run */
    union {                /* scratch: contents mean nothing between calls */
        int32_t front_end[KWS_FRONTEND_WORK_WORDS]; /* the FFT's buffer and the mel energies */
        int32_t network[KWS_WORK_WORDS];            /* activations, at planned offsets */
    } work;
} kws_state;

/* Prepare a state for its first sample. Returns KWS_OK or KWS_ERROR_NULL. */
int kws_init(kws_state *state);

/*
 * Begin a new stream with the next sample; thresholds stay as they were set. Call it when audio was
 * lost. Returns KWS_OK, KWS_ERROR_NULL or KWS_ERROR_NOT_INITIALISED.
 */
int kws_reset(kws_state *state);

/*
 * Set the threshold of one keyword in this stream, in place of the model's, until kws_init.
 *
 * keyword        index into kws_labels, one of enum kws_label
 * threshold_q15  lowest mean posterior at which it fires, 1 to 32768: 0.8 is 26214. A lower one
 *                means fewer misses and more false alarms. 32768, never reached, switches it off.
 *
 * Returns KWS_OK, KWS_ERROR_NULL, KWS_ERROR_NOT_INITIALISED or KWS_ERROR_THRESHOLD.
 */
int kws_set_threshold(kws_state *state, int keyword, uint32_t threshold_q15);

/*
 * Take the next samples of the stream.
 *
 * pcm    int16 [n], mono, KWS_SAMPLE_RATE_HZ; any n from 0 to KWS_MAX_FEED_SAMPLES. How a stream is
 *        cut into calls does not affect its events.
 * event  written if, and only if, KWS_EVENT is returned.
 *
 * Most calls are short: once KWS_FRAME_LENGTH samples are there, the front end runs for every
 * KWS_HOP_LENGTH new samples, and the network for every KWS_STEP_SAMPLES.
 *
 * Returns KWS_OK, KWS_EVENT or an error.
 */
int kws_feed(kws_state *state, const int16_t *pcm, size_t n, kws_event *event);

/* MFCC frames and steps of the network since kws_init or kws_reset; 0 for a state of NULL. */
uint64_t kws_frames(const kws_state *state);
uint64_t kws_steps(const kws_state *state);

/*
 * The newest frame, int32 [KWS_N_MFCC] in Q16 (zeros before the first), and the newest posteriors,
 * int8 [KWS_N_LABELS] (-128 before the first). They point into the state. To see every one of them,
 * feed at most KWS_HOP_LENGTH samples at a time. NULL for a state of NULL.
 */
const int32_t *kws_last_frame(const kws_state *state);
const int8_t *kws_last_posteriors(const kws_state *state);

#ifdef __cplusplus
}
#endif

#endif
