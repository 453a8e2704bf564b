/*
 * The pattern for STM32 and other bare-metal projects: a DMA in circular mode fills one buffer whose
 * halves it reports by interrupts, and the main loop feeds what is complete. With ST's HAL the DMA is
 * that of I2S (HAL_I2S_Receive_DMA), SAI (HAL_SAI_Receive_DMA) or DFSDM; all call a function when
 * half of the buffer is full and another when all of it is.
 *
 * An I2S microphone mostly brings two channels, and 24 bits in words of 32. Then let the DMA fill such
 * words, twice as many, and copy the upper bits of one channel into HALF values of 16 before kws_feed
 * (`to_16_bits` in examples/esp_idf shows how).
 *
 * Replace what stands under "Your board's part" by that of your board.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include <stdint.h>

#include "kws.h"
#include "kws_self_test.h"

#define HALF KWS_HOP_LENGTH /* samples: 20 ms to work on one half while the other fills */

/* Your board's part. ------------------------------------------------------------------------- */

/* Let the DMA fill `samples` values of 16 bits again and again, mono, KWS_SAMPLE_RATE_HZ. */
void microphone_start(int16_t *buffer, uint32_t samples);
/* Keep interrupts waiting, and let them come (`__disable_irq();` and `__enable_irq();`). */
void interrupts_off(void);
void interrupts_on(void);
/* Sleep until an interrupt waits, with interrupts off (`__WFI();` on Cortex-M wakes all the same). */
void sleep_until_interrupt(void);
/* A keyword was spoken. */
void report(const char *keyword, const kws_event *event);
/* The self-test failed: this build does not compute what it should. */
void report_failure(int error);

/* -------------------------------------------------------------------------------------------- */

/* Where a data cache is invalidated, whole lines of it are: nothing else may lie in them. The buffer
 * has to be in memory that the DMA reaches, which the STM32H7's DTCM is not. */
#if defined(__GNUC__)
__attribute__((aligned(32)))
#endif
static int16_t buffer[2 * HALF];
static volatile uint32_t halves_filled; /* counted by the interrupts */
static kws_state state;

/* Call these from the DMA's interrupts: HAL_I2S_RxHalfCpltCallback and HAL_I2S_RxCpltCallback (or
 * their kin of SAI or DFSDM). A core with a data cache (Cortex-M7) has to invalidate the half first:
 * SCB_InvalidateDCache_by_Addr. */
void microphone_half_filled(void)
{
    halves_filled = halves_filled + 1;
}

void microphone_all_filled(void)
{
    halves_filled = halves_filled + 1;
}

int main(void)
{
    uint32_t halves_taken = 0;
    int result = kws_self_test(&state);

    if (result != KWS_OK) {
        report_failure(result);
    }
    kws_init(&state);
    microphone_start(buffer, 2 * HALF);
    for (;;) {
        kws_event event;

        /* With interrupts on, one could come between the question and the sleep, which would then
         * last until the one after it. */
        interrupts_off();
        if (halves_filled == halves_taken) {
            sleep_until_interrupt();
        }
        interrupts_on();
        if (halves_filled == halves_taken) {
            continue; /* it was another interrupt */
        }
        if (halves_filled - halves_taken > 1) {
            /* Too slow: the DMA is already writing over what should be read now. */
            halves_taken = halves_filled;
            kws_reset(&state);
            continue;
        }
        result = kws_feed(&state, &buffer[halves_taken % 2 * HALF], HALF, &event);
        halves_taken++;
        if (result == KWS_EVENT) {
            report(kws_labels[event.keyword], &event);
        }
    }
}
