/* SPDX-License-Identifier: Apache-2.0
 *
 * Spectrum of one frame of audio, in 32-bit integers.
 *
 * Block exponent -> window (Hann, periodic) -> real FFT. The FFT of KWS_FRAME_LENGTH real samples
 * is a complex FFT of half that length over pairs of samples, then one pass that separates the
 * spectra of even and odd samples. It consists of radix-4 stages (and one of radix 2 where the
 * length requires it), decimation in time, in place.
 *
 * All products are upper words of 32 x 32 bits: one instruction on Cortex-M3 and up and on RISC-V
 * with M. Cortex-M0 has no such product and composes it of four products of 16 bits, with the same
 * result.
 */
#ifndef KWS_FFT_H
#define KWS_FFT_H

#include <stdint.h>

#include "kws_tables.h"

#ifdef __cplusplus
extern "C" {
#endif

/* cos(2 pi i / KWS_FRAME_LENGTH) for the first quarter of the circle, Q31 (1.0 is 2^31 - 1). For
 * window, FFT and separation. */
extern const int32_t kws_cos_q31[KWS_FRAME_LENGTH / 4 + 1];

/* Use only products of 16 x 16 -> 32 bits. Set for Thumb-1 (Cortex-M0, M0+, M1, M23); may be defined
 * for any other core. */
#if !defined(KWS_SHORT_PRODUCTS) && defined(__ARM_ARCH_ISA_THUMB)
#if __ARM_ARCH_ISA_THUMB == 1
#define KWS_SHORT_PRODUCTS 1
#endif
#endif

/* floor(x / 2^n), 0 <= n <= 31. In C the right shift of a negative number is implementation-defined;
 * every compiler for the cores named here keeps the sign, and the self-test detects one that does
 * not. */
static inline int32_t kws_floor_shift(int32_t x, int n)
{
    return x >> n;
}

/* Number of leading zero bits; x must not be 0. */
static inline int kws_leading_zeros(uint32_t x)
{
#if defined(__GNUC__)
    return __builtin_clz(x);
#else
    int n = 0;
    while (!(x & 0x80000000u)) {
        x <<= 1;
        n++;
    }
    return n;
#endif
}

/* Spectrum of a frame.
 *
 * frame     int16 [KWS_FRAME_LENGTH], the samples.
 * spectrum  int32 [KWS_FRAME_LENGTH], written: bin k (1 <= k < KWS_FRAME_LENGTH / 2) has its real
 *           part at 2k and its imaginary part at 2k + 1, with 16 - KWS_FFT_LOG2 + h fractional bits
 *           where samples are integers. (In the middle bin the imaginary part has the wrong sign;
 *           bin 0 is not separated from the highest one, and no mel filter reaches either.)
 * returns   h, 0..14: the block exponent, the bits that the frame was shifted left to fill the word.
 */
int kws_spectrum(const int16_t *frame, int32_t *spectrum);

#ifdef __cplusplus
}
#endif

#endif
