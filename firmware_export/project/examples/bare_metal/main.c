/*
 * The pattern for STM32 and other bare-metal projects: a DMA in circular mode fills one buffer and
 * signals each half by an interrupt, and the main loop feeds the completed half. With ST's HAL it
 * is the DMA of I2S (HAL_I2S_Receive_DMA), SAI (HAL_SAI_Receive_DMA) or DFSDM; all call one
 * function when half of the buffer is full and another when all of it is.
 *
 * An I2S microphone usually has two channels, and 24 bits in words of 32. Then let the DMA fill
 * twice as many words of 32 bits, and copy the upper bits of one channel into HALF values of 16
 * bits before kws_feed (`to_16_bits` in examples/esp_idf shows how).
 *
 * Replace the functions under "Your board's part" by those of your board.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include <stdint.h>

#include "kws.h"
#include "kws_self_test.h"

#define HALF KWS_HOP_LENGTH /* samples: 20 ms to process one half while the other fills */

/* Your board's part. ------------------------------------------------------------------------- */

/* Start the circular DMA of `samples` values of 16 bits, mono, KWS_SAMPLE_RATE_HZ. */
void microphone_start(int16_t *buffer, uint32_t samples);
/* Disable and enable interrupts (`__disable_irq();` and `__enable_irq();`). */
void interrupts_off(void);
void interrupts_on(void);
/* Sleep until an interrupt is pending, with interrupts off (on Cortex-M `__WFI();` still wakes). */
void sleep_until_interrupt(void);
/* A keyword was detected. */
void report(const char *keyword, const kws_event *event);
/* The self-test failed: this build does not compute what it should. */
void report_failure(int error);

/* -------------------------------------------------------------------------------------------- */

/* A data cache is invalidated in whole lines, so nothing else may share them. The buffer must be in
 * memory that the DMA can reach, unlike the STM32H7's DTCM. */
#if defined(__GNUC__)
__attribute__((aligned(32)))
#endif
static int16_t buffer[2 * HALF];
static volatile uint32_t halves_filled; /* counted by the interrupts */
static kws_state state;

/* Call these from the DMA's interrupts: HAL_I2S_RxHalfCpltCallback and HAL_I2S_RxCpltCallback (or
 * those of SAI or DFSDM). A core with a data cache (Cortex-M7) must invalidate the half first:
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

        /* With interrupts on, one could occur between the check and the sleep, which would then
         * last until the next one. */
        interrupts_off();
        if (halves_filled == halves_taken) {
            sleep_until_interrupt();
        }
        interrupts_on();
        if (halves_filled == halves_taken) {
            continue; /* it was another interrupt */
        }
        if (halves_filled - halves_taken > 1) {
            /* Too slow: the DMA is already overwriting the half to be read. */
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
