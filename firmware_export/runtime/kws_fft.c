/* SPDX-License-Identifier: Apache-2.0 */
#include "kws_fft.h"

enum {
    PAIRS = KWS_FRAME_LENGTH / 2,   /* length of the complex FFT, 2^KWS_FFT_LOG2 */
    QUARTER = KWS_FRAME_LENGTH / 4, /* a right angle in steps of kws_cos_q31 */
    ODD_LOG2 = KWS_FFT_LOG2 % 2,    /* one stage of radix 2 comes first */
    /* Stages with twiddle factors. Each halves its values, the first one, without them, does not. */
    HALVINGS = KWS_FFT_LOG2 / 2 - 1 + ODD_LOG2,
    /* Fractional bits of the windowed samples. No component of any intermediate result can pass the sum of
     * the magnitudes of the windowed pairs behind it, at most 2^15 * sqrt(2) * PAIRS / 2 for the
     * whole frame (half, because the window's mean is 1/2: the frames of each sub-FFT are spread
     * evenly over it). After all halvings that is 2^(15 + 1/2 - 1 + KWS_FFT_LOG2 - HALVINGS) of
     * these units, which with the value below is 2^30.5: half a bit is left for rounding. */
    SAMPLE_BITS = 16 - KWS_FFT_LOG2 + HALVINGS
};

/* floor(a * b / 2^32) */
static inline int32_t upper_word(int32_t a, int32_t b)
{
#if defined(KWS_SHORT_PRODUCTS)
    const int32_t a_low = a & 0xffff, b_low = b & 0xffff;
    const int32_t a_high = kws_floor_shift(a, 16), b_high = kws_floor_shift(b, 16);
    const int32_t carry = (int32_t)(((uint32_t)a_low * (uint32_t)b_low) >> 16);
    /* Neither sum can overflow: 65535 * 32768 + 65535 < 2^31. */
    const int32_t middle = a_high * b_low + carry;
    const int32_t other = a_low * b_high + (middle & 0xffff);
    return a_high * b_high + kws_floor_shift(middle, 16) + kws_floor_shift(other, 16);
#else
    return (int32_t)(((int64_t)a * b) >> 32);
#endif
}

/* Write to z the product of (re, im) and cos - i sin (Q31), halved. */
static void turn(int32_t *z, int32_t cosine, int32_t sine)
{
    const int32_t re = z[0], im = z[1];
    z[0] = upper_word(re, cosine) + upper_word(im, sine);
    z[1] = upper_word(im, cosine) - upper_word(re, sine);
}

/* cos(angle), Q31, for an angle of 0..KWS_FRAME_LENGTH steps */
static int32_t cosine_of(int angle)
{
    if (angle > 2 * QUARTER) {
        angle = 4 * QUARTER - angle;
    }
    return angle <= QUARTER ? kws_cos_q31[angle] : -kws_cos_q31[2 * QUARTER - angle];
}

/* sin(angle), Q31, for an angle of 0..3 * QUARTER steps */
static int32_t sine_of(int angle)
{
    return cosine_of(angle < QUARTER ? QUARTER - angle : angle - QUARTER);
}

/* Four-point DFT in place of z[0], z[length], z[2 length], z[3 length] (complex; already turned; in
 * bit-reversed order, so the middle two are swapped). */
static void butterfly(int32_t *z0, int length)
{
    int32_t *const z1 = z0 + 2 * length, *const z2 = z1 + 2 * length, *const z3 = z2 + 2 * length;
    for (int part = 0; part < 2; part++) {
        const int32_t a = z0[part] + z1[part], b = z0[part] - z1[part];
        const int32_t c = z2[part] + z3[part], d = z2[part] - z3[part];
        z0[part] = a + c;
        z2[part] = a - c;
        z1[part] = b;
        z3[part] = d;
    }
    /* z1 = b - i d, z3 = b + i d */
    const int32_t b_re = z1[0], b_im = z1[1], d_re = z3[0], d_im = z3[1];
    z1[0] = b_re + d_im;
    z1[1] = b_im - d_re;
    z3[0] = b_re - d_im;
    z3[1] = b_im + d_re;
}

/* FFT of pairs in bit-reversed order, in place; the result is divided by 2^HALVINGS. */
static void transform(int32_t *data)
{
    int length = 1; /* of the FFTs that are done */
    if (ODD_LOG2) {
        for (int32_t *z = data; z < data + 2 * PAIRS; z += 4) {
            for (int part = 0; part < 2; part++) {
                const int32_t a = z[part], b = z[part + 2];
                z[part] = a + b;
                z[part + 2] = a - b;
            }
        }
        length = 2;
    } else {
        for (int32_t *z = data; z < data + 2 * PAIRS; z += 8) {
            butterfly(z, 1);
        }
        length = 4;
    }
    for (; length < PAIRS; length *= 4) {
        const int step = QUARTER / length; /* 2 pi / (4 length) in steps of kws_cos_q31 */
        for (int k = 0; k < length; k++) {
            const int angle = k * step;
            const int32_t cos1 = cosine_of(angle), sin1 = sine_of(angle);
            const int32_t cos2 = cosine_of(2 * angle), sin2 = sine_of(2 * angle);
            const int32_t cos3 = cosine_of(3 * angle), sin3 = sine_of(3 * angle);
            for (int32_t *z = data + 2 * k; z < data + 2 * PAIRS; z += 8 * length) {
                z[0] = kws_floor_shift(z[0], 1);
                z[1] = kws_floor_shift(z[1], 1);
                turn(z + 2 * length, cos2, sin2);
                turn(z + 4 * length, cos1, sin1);
                turn(z + 6 * length, cos3, sin3);
                butterfly(z, length);
            }
        }
    }
}

/* From the FFT of pairs to that of single samples, in place, for bins 1..PAIRS - 1.
 * With Z the FFT of even + i odd: E = (Z[k] + conj Z[-k]) / 2, O = (Z[k] - conj Z[-k]) / 2i,
 * X[k] = E + w O and X[PAIRS - k] = conj(E - w O), w = exp(-2 pi i k / KWS_FRAME_LENGTH).
 * Nothing overflows: over such bins a cosine's mean magnitude is at most sqrt(1/2), so that no |X|,
 * 2|E| or 2|O| reaches 2^30.5. */
static void separate(int32_t *data)
{
    int32_t *low = data + 2, *high = data + 2 * (PAIRS - 1);
    for (int k = 1; k < PAIRS / 2; k++, low += 2, high -= 2) {
        const int32_t even_re = kws_floor_shift(low[0] + high[0], 1);
        const int32_t even_im = kws_floor_shift(low[1] - high[1], 1);
        int32_t odd[2] = {low[1] + high[1], high[0] - low[0]};
        turn(odd, kws_cos_q31[k], kws_cos_q31[QUARTER - k]);
        low[0] = even_re + odd[0];
        low[1] = even_im + odd[1];
        high[0] = even_re - odd[0];
        high[1] = odd[1] - even_im;
    }
    /* In the middle X = conj Z, and only its magnitude is asked for. */
}

/* sample * window, from Q31 to SAMPLE_BITS fractional bits, rounded */
static int32_t windowed(int32_t sample, uint32_t window)
{
    const int32_t low = kws_floor_shift(sample * (int32_t)(window & 0xffffu), 16);
    const int32_t product = sample * (int32_t)(window >> 16) + low; /* 15 fractional bits */
    return kws_floor_shift(product + (1 << (14 - SAMPLE_BITS)), 15 - SAMPLE_BITS);
}

int kws_spectrum(const int16_t *frame, int32_t *spectrum)
{
    int32_t used = 1; /* bits that some sample needs beside its sign */
    for (int i = 0; i < KWS_FRAME_LENGTH; i++) {
        used |= frame[i] ^ kws_floor_shift(frame[i], 15);
    }
    const int raised = kws_leading_zeros((uint32_t)used) - 17;
    const int32_t factor = 1 << raised;

    int target = 0; /* the number of the pair with its bits reversed */
    for (int pair = 0; pair < PAIRS; pair++) {
        for (int part = 0; part < 2; part++) {
            const int i = 2 * pair + part;
            /* (1 - cos) / 2; the table ends at the right angle. */
            const uint32_t cosine = (uint32_t)cosine_of(i);
            const uint32_t window = (0x80000000u - cosine) >> 1;
            spectrum[2 * target + part] = windowed(frame[i] * factor, window);
        }
        int bit = PAIRS / 2;
        while (target & bit) {
            target ^= bit;
            bit /= 2;
        }
        target |= bit;
    }
    transform(spectrum);
    separate(spectrum);
    return raised;
}
