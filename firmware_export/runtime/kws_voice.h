/*
 * The self-test's signal: a crude voice in integer arithmetic.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef KWS_VOICE_H
#define KWS_VOICE_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* State of the voice between two samples. Begin with all zero, and random = 1. */
typedef struct kws_voice {
    int32_t y[3][2];      /* the resonators' last two outputs, at most 32767 */
    uint32_t random;      /* xorshift32 */
    uint32_t since_pulse; /* samples */
    uint32_t sound;       /* index into kws_golden_sounds; KWS_GOLDEN_SOUNDS at the end */
    uint32_t said;        /* samples of this sound so far */
} kws_voice;

/* The next sample; there must be one. */
int16_t kws_voice_next(kws_voice *voice);

/* The next number of xorshift32. */
uint32_t kws_voice_random(uint32_t x);

#ifdef __cplusplus
}
#endif

#endif
