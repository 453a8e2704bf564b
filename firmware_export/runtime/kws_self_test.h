/*
 * Proof that this library computes on this machine what it was made to compute.
 *
 * A crude voice, made in whole numbers, says a few words; features, posteriors and events are
 * compared with those that Python and the TFLite interpreter got from the same signal. Then the
 * decisions are tried on posteriors in which every keyword fires. Takes about as long as
 * KWS_GOLDEN_STEPS steps of normal work, and is linked in only where it is called.
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
 * Run the self-test. It needs a state to work in and leaves it as kws_init does.
 *
 * Returns KWS_OK, or KWS_ERROR_FRONT_END, KWS_ERROR_NETWORK or KWS_ERROR_DECISION: the first stage
 * that differs; KWS_ERROR_NULL for a state of NULL.
 */
int kws_self_test(kws_state *state);

#ifdef __cplusplus
}
#endif

#endif
