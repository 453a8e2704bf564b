/*
 * What the calls of kws.h return.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef KWS_EVENT_H
#define KWS_EVENT_H

#include <stdint.h>

/* Errors are negative; a call that returns one has changed nothing. */
enum {
    KWS_OK = 0,                     /* done, no event */
    KWS_EVENT = 1,                  /* done, and *event was written */
    KWS_ERROR_NULL = -1,            /* a required pointer is NULL */
    KWS_ERROR_TOO_LONG = -2,        /* more than KWS_MAX_FEED_SAMPLES at once */
    KWS_ERROR_NOT_INITIALISED = -3, /* kws_init was not called on this state, or it was overwritten */
    KWS_ERROR_FRONT_END = -4,       /* self-test: the features differ from the expected ones */
    KWS_ERROR_NETWORK = -5,         /* self-test: the posteriors differ */
    KWS_ERROR_DECISION = -6,        /* self-test: the events differ */
    KWS_ERROR_THRESHOLD = -7        /* not a keyword, or the threshold is not in 1 ... 32768 */
};

/* A detected keyword. */
typedef struct kws_event {
    uint64_t time_samples; /* end of the audio behind it, in samples since kws_init or kws_reset */
    uint16_t keyword;      /* index into kws_labels, one of enum kws_label */
    uint16_t score_q15;    /* mean posterior over the window, Q15 (32768 is 1), rounded down */
} kws_event;

#endif
