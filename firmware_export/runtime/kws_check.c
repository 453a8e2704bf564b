/*
 * SPDX-License-Identifier: Apache-2.0
 */
#include "kws_check.h"

#include "kws_detector_test.h"

void kws_check_before(kws_check *before, const kws_state *state)
{
    before->steps[0] = (uint32_t)state->detector.steps;
    before->steps[1] = 0;
}

int kws_check_posteriors(const kws_check *before, const kws_state *state)
{
    return (uint32_t)state->detector.steps == before->steps[0] ||
           kws_detector_test_posteriors(&state->detector, before->steps[0]);
}

int kws_check_steps(const kws_state *state)
{
    return state->detector.steps == KWS_GOLDEN_STEPS;
}

int kws_check_decisions(kws_state *state)
{
    return kws_detector_test_decisions(&state->detector);
}
