/*
 * The self-test's view of the models: one, or a wake word's and the commands'.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef KWS_CHECK_H
#define KWS_CHECK_H

#include "kws.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Steps of each model before a call of kws_feed. */
typedef struct kws_check {
    uint32_t steps[2]; /* the second only if there are two models */
} kws_check;

/* Take down the steps so far. */
void kws_check_before(kws_check *before, const kws_state *state);

/* Return 1 if the posteriors of a step since then, at most one of each model, are right, else 0. */
int kws_check_posteriors(const kws_check *before, const kws_state *state);

/* Return 1 if there were as many steps as the signal has, else 0. */
int kws_check_steps(const kws_state *state);

/* Return 1 if the decisions on made-up posteriors are right, else 0. They begin anew. */
int kws_check_decisions(kws_state *state);

#ifdef __cplusplus
}
#endif

#endif
