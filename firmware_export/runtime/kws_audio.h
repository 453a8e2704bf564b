/*
 * From samples to frames and their MFCC.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef KWS_AUDIO_H
#define KWS_AUDIO_H

#include <stddef.h>
#include <stdint.h>

#include "kws_frontend.h"

#ifdef __cplusplus
extern "C" {
#endif

/* A stream of audio. */
typedef struct kws_audio {
    uint64_t frames;               /* computed since the beginning of the stream */
    uint32_t held;                 /* samples waiting in pcm, 0 to KWS_FRAME_LENGTH - 1 */
    int32_t mfcc_q16[KWS_N_MFCC];  /* newest frame, natural-log MFCC, Q16 (65536 is 1) */
    int16_t pcm[KWS_FRAME_LENGTH]; /* beginning of the next frame, full scale 32768 */
} kws_audio;

/* Begin a stream. */
void kws_audio_reset(kws_audio *audio);

/*
 * Take samples up to the end of the next frame, and compute its MFCC.
 *
 * work  int32 [KWS_FRONTEND_WORK_WORDS], overwritten
 * pcm   int16 [n]; *pcm and *n are moved past the samples that were taken
 *
 * Returns 1 if audio->mfcc_q16 is a new frame; 0 if the samples do not reach its end, all taken.
 */
int kws_audio_next_frame(kws_audio *audio, int32_t *work, const int16_t **pcm, size_t *n);

/* End of the newest frame, in samples since the beginning of the stream. */
uint64_t kws_audio_time(const kws_audio *audio);

#ifdef __cplusplus
}
#endif

#endif
