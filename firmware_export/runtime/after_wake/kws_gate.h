/*
 * Which commands count: the first one after a wake word, if it comes soon enough.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef KWS_GATE_H
#define KWS_GATE_H

#include <stdint.h>

#include "kws_config.h"

#ifdef __cplusplus
extern "C" {
#endif

/* The window that a wake word opens and a command closes. All zero: none is open. */
typedef struct kws_gate {
    uint64_t woken; /* when the latest wake word was heard, in samples */
    uint32_t open;  /* 1 from then until a command counts, else 0 */
} kws_gate;

/* Return 1 if a command would count at this time, in samples, else 0. */
int kws_gate_is_open(const kws_gate *gate, uint64_t now);

/* A wake word was heard at this time, in samples. */
void kws_gate_wake(kws_gate *gate, uint64_t now);

/* A command was heard at this time, in samples. Returns 1 if it counts, else 0. */
int kws_gate_command(kws_gate *gate, uint64_t now);

#ifdef __cplusplus
}
#endif

#endif
