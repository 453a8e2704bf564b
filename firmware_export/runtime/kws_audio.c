/*
 * SPDX-License-Identifier: Apache-2.0
 */
#include "kws_audio.h"

#include <string.h>

void kws_audio_reset(kws_audio *audio)
{
    memset(audio, 0, sizeof *audio);
}

int kws_audio_next_frame(kws_audio *audio, int32_t *work, const int16_t **pcm, size_t *n)
{
    enum { KEPT = KWS_FRAME_LENGTH - KWS_HOP_LENGTH }; /* samples that the next frame shares */
    const size_t missing = KWS_FRAME_LENGTH - (size_t)audio->held;
    const size_t taken = *n < missing ? *n : missing;

    if (taken == 0) {
        return 0;
    }
    memcpy(&audio->pcm[audio->held], *pcm, taken * sizeof audio->pcm[0]);
    audio->held += (uint32_t)taken;
    *pcm += taken;
    *n -= taken;
    if (taken < missing) {
        return 0;
    }
    kws_frontend_frame(audio->pcm, work, audio->mfcc_q16);
    audio->frames++;
    memmove(audio->pcm, &audio->pcm[KWS_HOP_LENGTH], KEPT * sizeof audio->pcm[0]);
    audio->held = KEPT;
    return 1;
}

uint64_t kws_audio_time(const kws_audio *audio)
{
    return audio->frames == 0 ? 0 : (audio->frames - 1) * KWS_HOP_LENGTH + KWS_FRAME_LENGTH;
}
