/*
 * Keyword spotting with a wake word: 16-bit audio in, events out.
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
 * One model listens for the wake word. Keywords of the other are commands: the first one within
 * KWS_WINDOW_SAMPLES after a wake word counts, and all others are left out. Both hear all audio,
 * through one front end, so that a command that follows at once is heard from its beginning.
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
#include "kws_commands_detector.h"
#include "kws_config.h"
#include "kws_event.h"
#include "kws_gate.h"
#include "kws_wake_detector.h"

#ifdef __cplusplus
extern "C" {
#endif

/*
 * All that the library remembers. Its size is known at compile time: sizeof(kws_state), at most
 * KWS_STATE_BYTES. It may be static, part of your own structure or on a large stack, and needs no
 * special alignment. The fields are private.
 */
typedef struct kws_state {
    kws_audio audio;                /* samples and the newest frame */
    kws_wake_detector wake;         /* network and decisions of the wake word */
    kws_commands_detector commands; /* and of the commands */
    kws_gate gate;                  /* which commands count */
    kws_event events[2];            /* found and not yet returned, the oldest first */
    uint32_t n_events;              /* how many; at most 1 between calls */
    uint32_t mark;                  /* KWS_STATE_MARK once kws_init has run */
    union {                         /* scratch: contents mean nothing between calls */
        int32_t front_end[KWS_FRONTEND_WORK_WORDS]; /* the FFT's buffer and the mel energies */
        int32_t wake[KWS_WAKE_WORK_WORDS];          /* activations, at planned offsets */
        int32_t commands[KWS_COMMANDS_WORK_WORDS];
    } work;
} kws_state;

/* Prepare a state for its first sample. Returns KWS_OK or KWS_ERROR_NULL. */
int kws_init(kws_state *state);

/*
 * Begin a new stream with the next sample, with no wake word heard; thresholds stay as they were set.
 * Call it when audio was lost. Returns KWS_OK, KWS_ERROR_NULL or KWS_ERROR_NOT_INITIALISED.
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
 * KWS_HOP_LENGTH new samples, and a network for every step of its own.
 *
 * A call returns at most one event. In the rare case that the samples hold both a wake word and a
 * command, the later one comes with the next call.
 *
 * Returns KWS_OK, KWS_EVENT or an error.
 */
int kws_feed(kws_state *state, const int16_t *pcm, size_t n, kws_event *event);

/* Return 1 if the label is of the wake word's model, 0 if it is of the commands'. */
int kws_is_wake_word(int label);

/* Return 1 if a wake word was heard and a command would count now, else 0; 0 for a state of NULL. */
int kws_is_listening(const kws_state *state);

/* MFCC frames since kws_init or kws_reset; 0 for a state of NULL. */
uint64_t kws_frames(const kws_state *state);

/*
 * The newest frame, int32 [KWS_N_MFCC] in Q16 (zeros before the first), and the newest posteriors of
 * each model, int8 [KWS_WAKE_N_LABELS] and [KWS_COMMANDS_N_LABELS] (-128 before the first). They
 * point into the state. To see every one of them, feed at most KWS_HOP_LENGTH samples at a time. NULL
 * for a state of NULL.
 */
const int32_t *kws_last_frame(const kws_state *state);
const int8_t *kws_last_wake_posteriors(const kws_state *state);
const int8_t *kws_last_command_posteriors(const kws_state *state);

#ifdef __cplusplus
}
#endif

#endif
