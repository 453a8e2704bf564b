/*
 * Reads raw samples (16-bit little-endian, KWS_SAMPLE_RATE_HZ, one channel) on stdin and prints the
 * keywords, as `kws run -` does:
 *
 *     arecord -q -t raw -f S16_LE -r @RATE@ -c 1 | kws_host
 *     ffmpeg -v error -i speech.ogg -f s16le -ar @RATE@ -ac 1 - | kws_host
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include <stdio.h>

#include "kws.h"

#ifdef _WIN32
#include <fcntl.h>
#include <io.h>
#endif

static void print_event(const kws_event *event)
{
    printf("-  %.2f s  %s  %.2f\n", (double)event->time_samples / KWS_SAMPLE_RATE_HZ,
           kws_labels[event->keyword], event->score_q15 / 32768.0);
    fflush(stdout);
}

int main(void)
{
    static kws_state state;
    kws_event event;
    unsigned char bytes[2 * KWS_HOP_LENGTH];
    size_t n;

#ifdef _WIN32
    _setmode(_fileno(stdin), _O_BINARY);
#endif
    kws_init(&state);
    while ((n = fread(bytes, 2, KWS_HOP_LENGTH, stdin)) > 0) {
        int16_t pcm[KWS_HOP_LENGTH];
        size_t i;
        int result;

        for (i = 0; i < n; i++) {
            pcm[i] = (int16_t)(bytes[2 * i] | bytes[2 * i + 1] << 8);
        }
        result = kws_feed(&state, pcm, n, &event);
        if (result == KWS_EVENT) {
            print_event(&event);
        } else if (result != KWS_OK) {
            fprintf(stderr, "kws_feed: error %d\n", result);
            return 1;
        }
    }
    /* With two models the last call may leave an event for another. */
    if (kws_feed(&state, NULL, 0, &event) == KWS_EVENT) {
        print_event(&event);
    }
    return 0;
}
