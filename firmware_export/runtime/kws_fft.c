/* SPDX-License-Identifier: Apache-2.0 */
#include "kws_fft.h"

enum {
    PAIRS = KWS_FRAME_LENGTH / 2,   /* length of the complex FFT, 2^KWS_FFT_LOG2 */
    QUARTER = KWS_FRAME_LENGTH / 4, /* a right angle in steps of kws_cos_q31 */
    /* Stages with twiddle factors, which halve their values. The first stage has none. */
    HALVINGS = (KWS_FFT_LOG2 - 1) / 2,
    /* Fractional bits of the windowed samples. No intermediate result can exceed the sum of the
     * magnitudes of the windowed pairs that it is made of. For all of them that sum is
     * 2^15 * sqrt(2) * PAIRS / 2, since the window's mean is 1/2; the pairs of a shorter FFT are
     * spread evenly over the frame, where the window's mean is the same. After all halvings it is
     * 2^(15 + 1/2 + KWS_FFT_LOG2 - 1 - HALVINGS), which with the bits below is 2^30.5: half a bit
     * is left for rounding. */
    SAMPLE_BITS = 16 - KWS_FFT_LOG2 + HALVINGS
};

/* Inlining small functions matters much for speed. Only where a product takes the registers that the
 * caller needs is `turn` better not inlined. */
#if defined(__GNUC__)
#define INLINE static inline __attribute__((always_inline))
#else
#define INLINE static inline
#endif
#if defined(__GNUC__) && defined(KWS_SHORT_PRODUCTS)
#define TURN static __attribute__((noinline))
#else
#define TURN INLINE
#endif

/* floor(a * b / 2^32) */
INLINE int32_t upper_word(int32_t a, int32_t b)
{
#if defined(KWS_SHORT_PRODUCTS)
    const int32_t a_low = a & 0xffff, b_low = b & 0xffff;
    const int32_t a_high = kws_floor_shift(a, 16), b_high = kws_floor_shift(b, 16);
    const int32_t carry = (int32_t)(((uint32_t)a_low * (uint32_t)b_low) >> 16);
    /* Neither sum overflows: 65535 * 32768 + 65535 < 2^31. */
    const int32_t middle = a_high * b_low + carry;
    const int32_t other = a_low * b_high + (middle & 0xffff);
    return a_high * b_high + kws_floor_shift(middle, 16) + kws_floor_shift(other, 16);
#else
    return (int32_t)(((int64_t)a * b) >> 32);
#endif
}

/* z * (factor[0] - i factor[1]) / 2 in place of z, the factor in Q31 */
TURN void turn(int32_t *z, const int32_t *factor)
{
    const int32_t re = z[0], im = z[1];
    z[0] = upper_word(re, factor[0]) + upper_word(im, factor[1]);
    z[1] = upper_word(im, factor[0]) - upper_word(re, factor[1]);
}

static void halve(int32_t *z)
{
    z[0] = kws_floor_shift(z[0], 1);
    z[1] = kws_floor_shift(z[1], 1);
}

/* Cosine and sine of 0..3 * QUARTER steps, Q31 */
static void look_up(int angle, int32_t *factor)
{
    int sign = 1;
    int32_t cosine, sine;
    if (angle > 2 * QUARTER) {
        angle -= 2 * QUARTER;
        sign = -1;
    }
    if (angle > QUARTER) {
        angle -= QUARTER;
        cosine = -kws_cos_q31[QUARTER - angle];
        sine = kws_cos_q31[angle];
    } else {
        cosine = kws_cos_q31[angle];
        sine = kws_cos_q31[QUARTER - angle];
    }
    factor[0] = sign * cosine;
    factor[1] = sign * sine;
}

/* sample (16 bits) * window (Q31) with SAMPLE_BITS fractional bits, rounded down: half a unit too
 * low on average, which affects bin 0 only. */
INLINE int32_t windowed(int32_t sample, int32_t window)
{
#if defined(KWS_SHORT_PRODUCTS)
    const int32_t low = kws_floor_shift(sample * (window & 0xffff), 16);
    const int32_t product = sample * kws_floor_shift(window, 16) + low; /* 15 fractional bits */
    return kws_floor_shift(product, 15 - SAMPLE_BITS);
#else
    return upper_word(sample * (1 << (SAMPLE_BITS + 1)), window);
#endif
}

/* Window, first stage and bit reversal in one: four-point DFTs of pairs a quarter of the frame
 * apart, whose windows share a cosine and a sine. Samples are multiplied by `factor`. */
static void first_stage(const int16_t *frame, int32_t factor, int32_t *data)
{
    const int32_t half = 1 << 30; /* of the window's height, Q31 */
    unsigned target = 0;          /* `pair` with its bits reversed */
    for (int pair = 0; pair < PAIRS / 4; pair++) {
        int32_t *z = data + 8 * target;
        for (int part = 0; part < 2; part++, z++) {
            const int i = 2 * pair + part;
            const int32_t cosine = kws_floor_shift(kws_cos_q31[i], 1);
            const int32_t sine = kws_floor_shift(kws_cos_q31[QUARTER - i], 1);
            const int32_t x0 = windowed(frame[i] * factor, half - cosine);
            const int32_t x1 = windowed(frame[i + QUARTER] * factor, half + sine);
            const int32_t x2 = windowed(frame[i + 2 * QUARTER] * factor, half + cosine);
            const int32_t x3 = windowed(frame[i + 3 * QUARTER] * factor, half - sine);
            z[0] = x0 + x2 + (x1 + x3);
            z[2] = x0 - x2;
            z[4] = x0 + x2 - (x1 + x3);
            z[6] = x1 - x3;
        }
        z -= 2;
        const int32_t re = z[2], im = z[3], d_re = z[6], d_im = z[7];
        z[2] = re + d_im;
        z[3] = im - d_re;
        z[6] = re - d_im;
        z[7] = im + d_re;

        unsigned bit = PAIRS / 8;
        while (target & bit) {
            target ^= bit;
            bit >>= 1;
        }
        target |= bit;
    }
}

/* Four-point DFT in place of z0, z1, z2, z3, which are `length` pairs apart, in bit-reversed order
 * (0, 2, 1, 3 in time). All but the first are halved already. */
static void four_points(int32_t *z0, int length)
{
    int32_t *const z1 = z0 + 2 * length, *const z2 = z1 + 2 * length, *const z3 = z2 + 2 * length;
    const int32_t z0_re = kws_floor_shift(z0[0], 1), z0_im = kws_floor_shift(z0[1], 1);
    const int32_t a_re = z0_re + z1[0], b_re = z0_re - z1[0];
    const int32_t c_re = z2[0] + z3[0], d_re = z2[0] - z3[0];
    const int32_t a_im = z0_im + z1[1], b_im = z0_im - z1[1];
    const int32_t c_im = z2[1] + z3[1], d_im = z2[1] - z3[1];
    z0[0] = a_re + c_re;
    z0[1] = a_im + c_im;
    z1[0] = b_re + d_im;
    z1[1] = b_im - d_re;
    z2[0] = a_re - c_re;
    z2[1] = a_im - c_im;
    z3[0] = b_re - d_im;
    z3[1] = b_im + d_re;
}

/* The other stages, in place. The result is the FFT of all pairs divided by 2^HALVINGS. */
static void other_stages(int32_t *data)
{
    const int32_t *const end = data + 2 * PAIRS;
    int length = 4;         /* of the FFTs computed so far */
    int step = QUARTER / 4; /* 2 pi / (4 length), in steps of kws_cos_q31 */
    for (; length <= PAIRS / 4; length *= 4, step = kws_floor_shift(step, 2)) {
        for (int32_t *z = data; z < end; z += 8 * length) {
            halve(z + 2 * length);
            halve(z + 4 * length);
            halve(z + 6 * length);
            four_points(z, length);
        }
        for (int k = 1; k < length; k++) {
            const int angle = k * step;
            int32_t once[2], twice[2], thrice[2];
            look_up(angle, once);
            look_up(2 * angle, twice);
            look_up(3 * angle, thrice);
            for (int32_t *z = data + 2 * k; z < end; z += 8 * length) {
                turn(z + 2 * length, twice);
                turn(z + 4 * length, once);
                turn(z + 6 * length, thrice);
                four_points(z, length);
            }
        }
    }
    if (length < PAIRS) { /* an odd power of two */
        for (int k = 0; k < PAIRS / 2; k++) {
            int32_t *const low = data + 2 * k, *const high = low + PAIRS;
            halve(low);
            int32_t factor[2];
            look_up(2 * k, factor);
            turn(high, factor);
            const int32_t re = low[0], im = low[1];
            low[0] = re + high[0];
            low[1] = im + high[1];
            high[0] = re - high[0];
            high[1] = im - high[1];
        }
    }
}

/* From the FFT of pairs to that of single samples, in place, for bins 1..PAIRS - 1.
 * With Z the FFT of even + i odd: E = (Z[k] + conj Z[-k]) / 2, O = (Z[k] - conj Z[-k]) / 2i,
 * X[k] = E + w O and X[PAIRS - k] = conj(E - w O), w = exp(-2 pi i k / KWS_FRAME_LENGTH).
 * Nothing overflows: over such bins a cosine's mean magnitude is at most sqrt(1/2), so no |X|, 2|E|
 * or 2|O| exceeds 2^30.5. */
static void separate(int32_t *data)
{
    int32_t *low = data + 2, *high = data + 2 * (PAIRS - 1);
    for (int k = 1; k < PAIRS / 2; k++, low += 2, high -= 2) {
        const int32_t even_re = kws_floor_shift(low[0] + high[0], 1);
        const int32_t even_im = kws_floor_shift(low[1] - high[1], 1);
        int32_t odd[2] = {low[1] + high[1], high[0] - low[0]};
        const int32_t factor[2] = {kws_cos_q31[k], kws_cos_q31[QUARTER - k]};
        turn(odd, factor);
        low[0] = even_re + odd[0];
        low[1] = even_im + odd[1];
        high[0] = even_re - odd[0];
        high[1] = odd[1] - even_im;
    }
    /* In the middle X = conj Z, of which only the magnitude is used. */
}

int kws_spectrum(const int16_t *frame, int32_t *spectrum)
{
    int32_t used = 1; /* bits that any sample needs besides its sign */
    for (int i = 0; i < KWS_FRAME_LENGTH; i++) {
        used |= frame[i] ^ kws_floor_shift(frame[i], 15);
    }
    const int raised = kws_leading_zeros((uint32_t)used) - 17;
    first_stage(frame, 1 << raised, spectrum);
    other_stages(spectrum);
    separate(spectrum);
    return raised;
}
