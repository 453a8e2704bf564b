/*
 * The self-test's signal and the results that it expects, generated in kws_golden.c.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef KWS_GOLDEN_H
#define KWS_GOLDEN_H

#include <stdint.h>

#include "kws_config.h"

#ifdef __cplusplus
extern "C" {
#endif

/* A sound of the signal: pulses or noise through three resonators. */
typedef struct kws_sound {
    uint16_t samples;   /* length */
    uint16_t period;    /* samples from pulse to pulse; 0: noise */
    int32_t loudness;   /* 0 to 64 */
    int32_t a[3], b[3]; /* resonators, Q14: y = x + a y[-1] - b y[-2] */
} kws_sound;

/* An expected event. */
typedef struct kws_golden_event {
    uint32_t when;      /* end of its audio in samples; in the test of decisions the step */
    uint16_t keyword;   /* index into the labels */
    uint16_t score_q15; /* mean posterior, Q15 */
} kws_golden_event;

/* The signal, a checksum of the features of each frame, and the events, whose list ends with one
 * that never occurs. */
extern const kws_sound kws_golden_sounds[KWS_GOLDEN_SOUNDS];
extern const uint32_t kws_golden_frames[KWS_GOLDEN_FRAMES];
extern const kws_golden_event kws_golden_events[KWS_GOLDEN_EVENTS + 1];

#ifdef __cplusplus
}
#endif

#endif
