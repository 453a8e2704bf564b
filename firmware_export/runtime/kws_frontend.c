/* SPDX-License-Identifier: Apache-2.0 */
#include "kws_frontend.h"

#include "kws_fft.h"

enum {
    HALF_MELS = (KWS_N_MELS + 1) / 2, /* columns of kws_dct */
    LN2_Q24 = 11629080                /* ln 2 */
};

static uint32_t magnitude_of(int32_t x)
{
    return x < 0 ? 0u - (uint32_t)x : (uint32_t)x;
}

/* sqrt(x), rounded, for 2^29 <= x < 2^32: 16 bits, from the table by linear interpolation */
static uint32_t root_of(uint32_t x)
{
    const uint16_t *const entry = kws_root + ((x >> 24) - 32u);
    const uint32_t step = (uint32_t)entry[1] - entry[0];
    return entry[0] + ((step * ((x >> 8) & 0xffffu) + 0x8000u) >> 16);
}

/* max(0, ln(energy) + constant), Q18, where the constant makes 0 the floor of the front end */
static int32_t log_above_floor(uint32_t energy, int raised)
{
    if (energy == 0) {
        return 0;
    }
    const int shift = kws_leading_zeros(energy);
    const uint32_t x = energy << shift; /* 1 <= x / 2^31 < 2 */
    const uint16_t *const entry = kws_ln_q16 + ((x >> 24) & 127u);
    const uint32_t step = (uint32_t)entry[1] - entry[0];
    const uint32_t ln = ((uint32_t)entry[0] << 16) + step * ((x >> 8) & 0xffffu); /* Q32 */
    const int32_t above = KWS_LOG_OFFSET_Q24 - (shift + raised) * LN2_Q24 + (int32_t)(ln >> 8);
    return above < 0 ? 0 : kws_floor_shift(above + 32, 6);
}

/* Mel filters over the spectrum, and the logarithm: the first KWS_N_MELS words become
 * log_above_floor of each filter. They overwrite bins that have been read already: no bin is in
 * more than two filters, and a bin takes two words. */
static void mel_logarithms(int32_t *work, int raised)
{
    const int32_t *bin = work + 2 * KWS_MEL_FIRST_BIN;
    const uint16_t *weight = kws_mel_weight_q16;
    uint32_t rising_before = 0;
    for (int run = 0; run <= KWS_N_MELS; run++) {
        uint32_t rising = 0, falling = 0; /* units: sqrt(2) * 2^KWS_MEL_GUARD of the spectrum's */
        for (int i = kws_mel_bins[run]; i > 0; i--, bin += 2, weight++) {
            const uint32_t re = magnitude_of(bin[0]), im = magnitude_of(bin[1]);
            if ((re | im) >> KWS_MEL_GUARD == 0) {
                continue; /* less than one unit of the sums */
            }
            /* Shift both left until one fills 32 bits, and keep the upper 16. What is cut off is
             * half a unit on average, and (a + 1/2)^2 is a (a + 1) + 1/4. */
            const int shift = kws_leading_zeros(re | im);
            const uint32_t a = (re << shift) >> 16, b = (im << shift) >> 16;
            const uint32_t root = root_of(((a * (a + 1u)) >> 1) + ((b * (b + 1u)) >> 1));
            const int back = shift + KWS_MEL_GUARD; /* at most 31: a bit above GUARD is set */
            const uint32_t all = (root << 16) >> back, up = (root * *weight) >> back;
            rising += up;
            falling += all - up;
        }
        if (run > 0) {
            work[run - 1] = log_above_floor(rising_before + falling, raised);
        }
        rising_before = rising;
    }
}

/* floor(sum of x[i * step] * row[i] / 2^16), i = 0..HALF_MELS - 1 */
static int32_t dot(const int32_t *x, int step, const int16_t *row)
{
#if defined(KWS_SHORT_PRODUCTS)
    int32_t sum = 0;
    uint32_t fractions = 0;
    for (int i = 0; i < HALF_MELS; i++, x += step) {
        const int32_t low = (*x & 0xffff) * row[i];
        sum += kws_floor_shift(*x, 16) * row[i] + kws_floor_shift(low, 16);
        fractions += (uint32_t)low & 0xffffu;
    }
    return sum + (int32_t)(fractions >> 16);
#else
    int64_t sum = 0;
    for (int i = 0; i < HALF_MELS; i++, x += step) {
        sum += (int64_t)*x * row[i];
    }
    return (int32_t)(sum >> 16);
#endif
}

void kws_frontend_frame(const int16_t frame[KWS_FRAME_LENGTH],
                        int32_t work[KWS_FRONTEND_WORK_WORDS], int32_t mfcc_q16[KWS_N_MFCC])
{
    const int raised = kws_spectrum(frame, work);
    mel_logarithms(work, raised);
    /* Even rows of the DCT are symmetric and odd rows antisymmetric: sums and differences of
     * mirrored filters halve the number of products. */
    for (int i = 0; i < KWS_N_MELS / 2; i++) {
        const int32_t first = work[i], last = work[KWS_N_MELS - 1 - i];
        work[i] = first + last;
        work[KWS_N_MELS - 1 - i] = first - last;
    }
    for (int k = 0; k < KWS_N_MFCC; k++) {
        const int odd = k % 2;
        const int32_t sum =
            dot(odd ? work + KWS_N_MELS - 1 : work, odd ? -1 : 1, kws_dct + k * HALF_MELS);
        mfcc_q16[k] = kws_floor_shift(sum + ((1 << KWS_DCT_SHIFT) >> 1), KWS_DCT_SHIFT);
    }
    /* The logarithms are relative to the floor; a constant affects coefficient 0 only. */
    mfcc_q16[0] += KWS_MFCC0_FLOOR_Q16;
}
