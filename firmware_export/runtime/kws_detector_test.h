/*
 * The self-test's part for one model: its posteriors and its decisions. What they must be is
 * generated in kws_detector_golden.c.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef KWS_DETECTOR_TEST_H
#define KWS_DETECTOR_TEST_H

#include <stdint.h>

#include "kws_detector.h"
#include "kws_golden.h"

#ifdef __cplusplus
extern "C" {
#endif

/* For each step of the self-test's signal its posteriors. */
extern const int8_t kws_golden_posteriors[KWS_GOLDEN_STEPS * KWS_N_LABELS]; /* [step, label] */

/* Events in the test of decisions, which makes its own posteriors: for each keyword,
 * KWS_GOLDEN_ROUNDS times KWS_GOLDEN_STRETCH steps with it and as many without. The list ends with
 * an event that never occurs. */
extern const kws_golden_event kws_golden_decisions[KWS_GOLDEN_DECISIONS + 1];

/* Return 1 if the newest posteriors are those of this step of the signal, else 0. */
int kws_detector_test_posteriors(const kws_detector *detector, uint32_t step);

/* Return 1 if the decisions on made-up posteriors are right, else 0; it begins with kws_decide_init. */
int kws_detector_test_decisions(kws_detector *detector);

#ifdef __cplusplus
}
#endif

#endif
