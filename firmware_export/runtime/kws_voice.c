/*
 * SPDX-License-Identifier: Apache-2.0
 */
#include "kws_voice.h"

#include "kws_golden.h"

static int32_t limit(int32_t x, int32_t low, int32_t high)
{
    return x < low ? low : x > high ? high : x;
}

uint32_t kws_voice_random(uint32_t x)
{
    x ^= x << 13;
    x ^= x >> 17;
    return x ^ (x << 5);
}

/* No product exceeds 31 bits: |y| < 2^15, |a| <= 2^15, b <= 2^14. */
int16_t kws_voice_next(kws_voice *voice)
{
    static const int32_t gain[3] = {20, -12, 7};
    const kws_sound *s = &kws_golden_sounds[voice->sound];
    int32_t x, mixed = 0;
    int k;

    voice->random = kws_voice_random(voice->random);
    voice->since_pulse = voice->since_pulse + 1 < s->period ? voice->since_pulse + 1 : 0;
    if (s->period == 0) {
        x = (int32_t)(voice->random >> 24) - 128;
    } else {
        x = voice->since_pulse == 0 ? 1500 : 0;
    }
    for (k = 0; k < 3; k++) {
        int32_t *y = voice->y[k];
        const int32_t now = x + (s->a[k] * y[0] - s->b[k] * y[1]) / 16384;

        y[1] = y[0];
        y[0] = limit(now, -32767, 32767);
        mixed += gain[k] * y[0];
    }
    if (++voice->said == s->samples) {
        voice->said = 0;
        voice->sound++;
    }
    x = mixed * s->loudness / 2048 + (int32_t)((voice->random >> 8) & 63) - 32;
    return (int16_t)limit(x, -32768, 32767);
}
