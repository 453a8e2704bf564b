/*
 * SPDX-License-Identifier: Apache-2.0
 */
#include "kws_check.h"

#include "kws_commands_detector_test.h"
#include "kws_wake_detector_test.h"

void kws_check_before(kws_check *before, const kws_state *state)
{
    before->steps[0] = (uint32_t)state->wake.steps;
    before->steps[1] = (uint32_t)state->commands.steps;
}

int kws_check_posteriors(const kws_check *before, const kws_state *state)
{
    return ((uint32_t)state->wake.steps == before->steps[0] ||
            kws_wake_detector_test_posteriors(&state->wake, before->steps[0])) &&
           ((uint32_t)state->commands.steps == before->steps[1] ||
            kws_commands_detector_test_posteriors(&state->commands, before->steps[1]));
}

int kws_check_steps(const kws_state *state)
{
    return state->wake.steps == KWS_WAKE_GOLDEN_STEPS &&
           state->commands.steps == KWS_COMMANDS_GOLDEN_STEPS;
}

/* One command counts for each wake word: after it, and at the end of the window at the latest. */
static int gate_works(void)
{
    const uint64_t woken = 1000, last = woken + KWS_WINDOW_SAMPLES;
    kws_gate gate = {0, 0};

    if (kws_gate_command(&gate, woken)) {
        return 0;
    }
    kws_gate_wake(&gate, woken);
    if (kws_gate_command(&gate, woken) || kws_gate_command(&gate, last + 1) ||
        !kws_gate_command(&gate, last) || kws_gate_command(&gate, last)) {
        return 0;
    }
    kws_gate_wake(&gate, last);
    return kws_gate_command(&gate, last + 1) && !kws_gate_is_open(&gate, last + 2);
}

int kws_check_decisions(kws_state *state)
{
    return kws_wake_detector_test_decisions(&state->wake) &&
           kws_commands_detector_test_decisions(&state->commands) && gate_works();
}
