/*
 * SPDX-License-Identifier: Apache-2.0
 */
#include "kws_gate.h"

int kws_gate_is_open(const kws_gate *gate, uint64_t now)
{
    return gate->open && now > gate->woken && now - gate->woken <= KWS_WINDOW_SAMPLES;
}

void kws_gate_wake(kws_gate *gate, uint64_t now)
{
    gate->woken = now;
    gate->open = 1;
}

int kws_gate_command(kws_gate *gate, uint64_t now)
{
    const int counts = kws_gate_is_open(gate, now);

    if (counts) {
        gate->open = 0;
    }
    return counts;
}
