/*
 * Checks that this library computes on this machine exactly what it should.
 *
 * A crude voice, synthesised in integer arithmetic, says a few words; features, posteriors and
 * events are compared with those that Python and the TFLite interpreter computed from the same
 * signal. Then the decisions are tested on posteriors in which every keyword fires. It takes about
 * as long as KWS_SELF_TEST_MS of normal work, and is linked only if it is called.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef KWS_SELF_TEST_H
#define KWS_SELF_TEST_H

#include "kws.h"

#ifdef __cplusplus
extern "C" {
#endif

/*
 * Run the self-test in a state, and leave it as kws_init does.
 *
 * Returns KWS_OK; the error of the first stage that differs: KWS_ERROR_FRONT_END, KWS_ERROR_NETWORK
 * or KWS_ERROR_DECISION; or KWS_ERROR_NULL for a state of NULL.
 */
int kws_self_test(kws_state *state);

/* Audio that the self-test hears, in milliseconds: the share of it that the test takes is the load
 * to expect, a little overestimated, as the test also makes the audio. */
#define KWS_SELF_TEST_MS (KWS_GOLDEN_FRAMES * 1000ul * KWS_HOP_LENGTH / KWS_SAMPLE_RATE_HZ)

#ifdef __cplusplus
}
#endif

#endif
