/* SPDX-License-Identifier: Apache-2.0 */
/* Feeds clips to the library and writes all that it computes, for comparison with Python.
 *
 * It feeds one hop at a time, so that each call completes at most one frame and one step of a
 * network, and the newest of each is the one to write. Of a library of two models it writes what
 * concerns one of them, which `view.h` names: MODEL, its `kws_detector`; N_LABELS and FIRST_LABEL,
 * its labels and where they begin in those of the library; quantise, its `kws_input_quantise`;
 * BEGIN, what is done before a clip.
 *
 * Both files are little-endian and packed. input.bin:
 *   char[4] "KWSI", uint32 number of clips, then for each clip
 *   uint32 number of samples, int16 samples
 * output.bin:
 *   char[4] "KWSO", uint32 frame length, hop length, MFCC, labels, bytes of the state; then records,
 *   each a letter and these data:
 *   'C' a clip begins, state reset      -
 *   'F' a frame                         int32 MFCC in Q16 [MFCC], int8 as the network takes it [MFCC]
 *   'P' a step                          int8 posteriors [labels]
 *   'E' an event (after its step)       uint16 label, uint16 score in Q15, uint64 time in samples
 *   'Z' the end                         -
 * Exit status: 0, or 1 if the library returned an error, 2 if the input is cut off, 3 if a file
 * cannot be opened or written, 4 if the processor faulted. */
#include "board.h"

#include "kws.h"
#include "view.h"

static kws_state state;
static int16_t pcm[KWS_HOP_LENGTH];

static void read_all(void *to, size_t size)
{
    uint8_t *bytes = to;
    while (size > 0) {
        const size_t got = board_read(bytes, size);
        if (got == 0) {
            board_exit(2);
        }
        bytes += got;
        size -= got;
    }
}

static void write_letter(char letter)
{
    board_write(&letter, 1);
}

static void write_news(uint32_t frames, uint32_t steps)
{
    if (kws_frames(&state) != frames) {
        const int32_t *mfcc = kws_last_frame(&state);
        int8_t quantised[KWS_N_MFCC];
        quantise(mfcc, quantised);
        write_letter('F');
        board_write(mfcc, KWS_N_MFCC * sizeof *mfcc);
        board_write(quantised, sizeof quantised);
    }
    if (MODEL.steps != steps) {
        write_letter('P');
        board_write(MODEL.posteriors, N_LABELS);
    }
}

static void write_event(const kws_event *event)
{
    const uint16_t label = (uint16_t)(event->keyword - FIRST_LABEL);
    if (label >= N_LABELS) {
        return; /* of the other model; below the first it wraps around */
    }
    write_letter('E');
    board_write(&label, sizeof label);
    board_write(&event->score_q15, sizeof event->score_q15);
    board_write(&event->time_samples, sizeof event->time_samples);
}

static void hear_clip(void)
{
    uint32_t left;
    read_all(&left, sizeof left);
    if (kws_reset(&state) != KWS_OK) {
        board_exit(1);
    }
    BEGIN;
    write_letter('C');
    while (left > 0) {
        const uint32_t n = left < KWS_HOP_LENGTH ? left : KWS_HOP_LENGTH;
        const uint32_t frames = (uint32_t)kws_frames(&state), steps = (uint32_t)MODEL.steps;
        kws_event event;
        read_all(pcm, n * sizeof pcm[0]);
        left -= n;
        const int result = kws_feed(&state, pcm, n, &event);
        if (result < 0) {
            board_exit(1);
        }
        write_news(frames, steps);
        if (result == KWS_EVENT) {
            write_event(&event);
        }
    }
    /* The last call may have found a second event. */
    kws_event event;
    if (kws_feed(&state, NULL, 0, &event) == KWS_EVENT) {
        write_event(&event);
    }
}

int main(void)
{
    const uint32_t sizes[5] = {KWS_FRAME_LENGTH, KWS_HOP_LENGTH, KWS_N_MFCC, N_LABELS,
                               sizeof(kws_state)};
    char magic[4];
    uint32_t clips;
    read_all(magic, sizeof magic);
    read_all(&clips, sizeof clips);
    if (magic[0] != 'K' || magic[1] != 'W' || magic[2] != 'S' || magic[3] != 'I') {
        board_exit(2);
    }
    board_write("KWSO", 4);
    board_write(sizes, sizeof sizes);
    if (kws_init(&state) != KWS_OK) {
        board_exit(1);
    }
    while (clips-- > 0) {
        hear_clip();
    }
    write_letter('Z');
    board_exit(0);
}
