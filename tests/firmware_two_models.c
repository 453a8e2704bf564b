/* SPDX-License-Identifier: Apache-2.0 */
/* Two models in one program hear the same audio. input.bin: uint32 number of samples, samples.
 * output.bin, for each event: uint16 model (0 or 1), keyword, score in Q15, 0; uint64 time. */
#include "board.h"
#include "kws.h"
#include "kws_self_test.h"
#include "kws_hey.h"
#include "kws_hey_self_test.h"

#define CHUNK 160

static kws_state first;
static kws_hey_state second;
static union {
    kws_state first;
    kws_hey_state second;
} either;
static int16_t pcm[CHUNK];

static void write_event(uint16_t model, uint16_t keyword, uint16_t score_q15, uint64_t time)
{
    const uint16_t head[4] = {model, keyword, score_q15, 0};
    board_write(head, sizeof head);
    board_write(&time, sizeof time);
}

int main(void)
{
    uint32_t left;

    if (kws_self_test(&first) != KWS_OK || kws_hey_self_test(&second) != KWS_HEY_OK) {
        board_exit(1);
    }
    /* Memory that was another model's state is none before its own init. */
    kws_init(&either.first);
    if (kws_hey_reset(&either.second) != KWS_HEY_ERROR_NOT_INITIALISED) {
        board_exit(1);
    }
    kws_hey_init(&either.second);
    if (kws_reset(&either.first) != KWS_ERROR_NOT_INITIALISED) {
        board_exit(1);
    }
    if (board_read(&left, sizeof left) != sizeof left) {
        board_exit(2);
    }
    while (left > 0) {
        const uint32_t n = left < CHUNK ? left : CHUNK;
        kws_event event;
        kws_hey_event other;

        if (board_read(pcm, n * sizeof pcm[0]) != n * sizeof pcm[0]) {
            board_exit(2);
        }
        left -= n;
        if (kws_hey_feed(&second, pcm, n, &other) == KWS_HEY_EVENT) {
            write_event(1, other.keyword, other.score_q15, other.time_samples);
        }
        if (kws_feed(&first, pcm, n, &event) == KWS_EVENT) {
            write_event(0, event.keyword, event.score_q15, event.time_samples);
        }
    }
    board_exit(0);
}
