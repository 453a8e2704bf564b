/*
 * SPDX-License-Identifier: Apache-2.0
 */
#include "kws_dot.h"

/* Right shifts must keep the sign of negative numbers, see kws_fixed_point.h. */
typedef char kws_kernels_are_arithmetic[(-3 >> 1) == -2 ? 1 : -1];

/*
 * The loop over four rows: one for Arm cores that multiply two pairs of 16 bits at once and read
 * words at any address (Cortex-M4 and up), one for cores with Thumb-1 only (Cortex-M0, M23), or
 * plain C. Define KWS_PLAIN_C for the last if the compiler lacks the 13 registers that the first
 * needs (-ffixed-r9, -fropi). All compute the same sums.
 */
#if defined(__GNUC__) && defined(__ARM_FEATURE_DSP) && defined(__ARM_FEATURE_UNALIGNED) && \
    !defined(KWS_PLAIN_C)
#define KWS_DOT_DSP 1
#elif defined(__GNUC__) && defined(__thumb__) && !defined(__thumb2__) && !defined(KWS_PLAIN_C)
#define KWS_DOT_THUMB1 1
#endif

int32_t kws_dot_s8(const int8_t *a, const int8_t *b, int32_t n)
{
    int32_t sum = 0;
    int32_t i;

    for (i = 0; i < n; i++) {
        sum += a[i] * b[i];
    }
    return sum;
}

/* The sums of four rows; n > 0. */
#ifdef KWS_DOT_THUMB1
/*
 * Compilers do not keep sums in the upper registers, which Thumb-1 can add to but do little else
 * with. Arguments: r0 x, r1 weights, r2 stride, r3 n, and on the stack the sums. In the loop r3
 * counts from -n to 0, r0 is the end of x, r1, r4, r5, r6 are the ends of the rows, r2 is a value
 * of x, r7 a weight and then their product, r8 ... r11 are the sums.
 */
__attribute__((naked, noinline)) static void
dot4(const int8_t *x __attribute__((unused)), const int8_t *weights __attribute__((unused)),
     int32_t stride __attribute__((unused)), int32_t n __attribute__((unused)),
     int32_t *sums __attribute__((unused)))
{
    __asm__(".syntax unified\n"
            "    push {r4, r5, r6, r7, lr}\n"
            "    mov r4, r8\n"
            "    mov r5, r9\n"
            "    mov r6, r10\n"
            "    mov r7, r11\n"
            "    push {r4, r5, r6, r7}\n"
            "    ldr r7, [sp, #36]\n"
            "    ldm r7!, {r4, r5, r6}\n"
            "    ldr r7, [r7]\n"
            "    mov r8, r4\n"
            "    mov r9, r5\n"
            "    mov r10, r6\n"
            "    mov r11, r7\n"
            "    adds r0, r0, r3\n"
            "    adds r1, r1, r3\n"
            "    adds r4, r1, r2\n"
            "    adds r5, r4, r2\n"
            "    adds r6, r5, r2\n"
            "    rsbs r3, r3, #0\n"
            "1:  ldrsb r2, [r0, r3]\n"
            "    ldrsb r7, [r1, r3]\n"
            "    muls r7, r2, r7\n"
            "    add r8, r8, r7\n"
            "    ldrsb r7, [r4, r3]\n"
            "    muls r7, r2, r7\n"
            "    add r9, r9, r7\n"
            "    ldrsb r7, [r5, r3]\n"
            "    muls r7, r2, r7\n"
            "    add r10, r10, r7\n"
            "    ldrsb r7, [r6, r3]\n"
            "    muls r7, r2, r7\n"
            "    add r11, r11, r7\n"
            "    adds r3, r3, #1\n"
            "    bne 1b\n"
            "    ldr r3, [sp, #36]\n"
            "    mov r4, r8\n"
            "    mov r5, r9\n"
            "    mov r6, r10\n"
            "    mov r7, r11\n"
            "    stm r3!, {r4, r5, r6, r7}\n"
            "    pop {r4, r5, r6, r7}\n"
            "    mov r8, r4\n"
            "    mov r9, r5\n"
            "    mov r10, r6\n"
            "    mov r11, r7\n"
            "    pop {r4, r5, r6, r7, pc}\n");
}
#else
static void dot4(const int8_t *x, const int8_t *weights, int32_t stride, int32_t n, int32_t *sums)
{
    int32_t sum0 = sums[0], sum1 = sums[1], sum2 = sums[2], sum3 = sums[3];

#ifdef KWS_DOT_DSP
    int32_t fours = n >> 2;

    n &= 3;
    if (fours > 0) {
        uint32_t even, odd, word, pair;

        /*
         * Four products of each row in every iteration. sxtb16 extends bytes 0 and 2, or 1 and 3,
         * to a pair of 16 bits; smlad adds the two products of two pairs. These cores read words at
         * any address. Written in C, the same instructions cost a quarter more, for moving
         * pointers.
         */
        __asm__ volatile("1:  ldr %[odd], [%[x]], #4\n"
                         "    sxtb16 %[even], %[odd]\n"
                         "    sxtb16 %[odd], %[odd], ror #8\n"
                         "    ldr %[word], [%[w], %[stride]]\n"
                         "    sxtb16 %[pair], %[word]\n"
                         "    smlad %[sum1], %[even], %[pair], %[sum1]\n"
                         "    sxtb16 %[word], %[word], ror #8\n"
                         "    smlad %[sum1], %[odd], %[word], %[sum1]\n"
                         "    ldr %[word], [%[w], %[stride], lsl #1]\n"
                         "    sxtb16 %[pair], %[word]\n"
                         "    smlad %[sum2], %[even], %[pair], %[sum2]\n"
                         "    sxtb16 %[word], %[word], ror #8\n"
                         "    smlad %[sum2], %[odd], %[word], %[sum2]\n"
                         "    ldr %[word], [%[w], %[stride3]]\n"
                         "    sxtb16 %[pair], %[word]\n"
                         "    smlad %[sum3], %[even], %[pair], %[sum3]\n"
                         "    sxtb16 %[word], %[word], ror #8\n"
                         "    smlad %[sum3], %[odd], %[word], %[sum3]\n"
                         "    ldr %[word], [%[w]], #4\n"
                         "    sxtb16 %[pair], %[word]\n"
                         "    smlad %[sum0], %[even], %[pair], %[sum0]\n"
                         "    sxtb16 %[word], %[word], ror #8\n"
                         "    smlad %[sum0], %[odd], %[word], %[sum0]\n"
                         "    subs %[fours], #1\n"
                         "    bne 1b\n"
                         : [x] "+r"(x), [w] "+r"(weights), [fours] "+r"(fours), [sum0] "+r"(sum0),
                           [sum1] "+r"(sum1), [sum2] "+r"(sum2), [sum3] "+r"(sum3),
                           [even] "=&r"(even), [odd] "=&r"(odd), [word] "=&r"(word),
                           [pair] "=&r"(pair)
                         : [stride] "r"(stride), [stride3] "r"(3 * stride)
                         : "cc", "memory");
    }
#endif
    for (; n > 0; n--, weights++) {
        int32_t value = *x++;

        sum0 += value * weights[0];
        sum1 += value * weights[stride];
        sum2 += value * weights[2 * stride];
        sum3 += value * weights[3 * stride];
    }
    sums[0] = sum0;
    sums[1] = sum1;
    sums[2] = sum2;
    sums[3] = sum3;
}
#endif

void kws_dot_rows_s8(const int8_t *x, const int8_t *weights, int32_t stride, int32_t n,
                     int32_t rows, int32_t *sums)
{
    int32_t row;

    if (rows == 4 && n > 0) {
        dot4(x, weights, stride, n, sums);
        return;
    }
    for (row = 0; row < rows; row++) {
        sums[row] += kws_dot_s8(x, weights + row * stride, n);
    }
}
