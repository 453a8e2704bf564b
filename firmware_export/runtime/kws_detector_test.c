/*
 * SPDX-License-Identifier: Apache-2.0
 */
#include "kws_detector_test.h"

#include <string.h>

#include "kws_voice.h"

int kws_detector_test_posteriors(const kws_detector *detector, uint32_t step)
{
    return step < KWS_GOLDEN_STEPS && memcmp(detector->posteriors,
                                             &kws_golden_posteriors[step * KWS_N_LABELS],
                                             KWS_N_LABELS) == 0;
}

/* Posteriors of one step: noise, and keyword k at about `level`; at level 255 the next one too. */
static uint32_t make_posteriors(int8_t *posteriors, uint32_t k, int32_t level, uint32_t random)
{
    int label;

    for (label = 0; label < KWS_N_LABELS; label++) {
        random = kws_voice_random(random);
        posteriors[label] = (int8_t)((int32_t)(random >> 29) - 128);
    }
    if (level == 255) {
        label = kws_keyword_label[(k + 1) % KWS_N_KEYWORDS];
        posteriors[label] = (int8_t)(127 - (int32_t)(random >> 29));
        random = kws_voice_random(random);
        level -= (int32_t)(random >> 29);
    }
    posteriors[kws_keyword_label[k]] = (int8_t)(level - 128);
    return random;
}

/*
 * Each keyword in turn has a posterior near 1, together with the next, for as long as two events
 * need. Then it falls, less in each round: while it stays above its release limit it must not fire
 * again.
 */
int kws_detector_test_decisions(kws_detector *detector)
{
    uint32_t events = 0, random = 1, step = 0, k, round, i;

    kws_decide_init(&detector->decide);
    for (k = 0; k < KWS_N_KEYWORDS; k++) {
        for (round = 0; round < KWS_GOLDEN_ROUNDS; round++) {
            for (i = 0; i < 2 * KWS_GOLDEN_STRETCH; i++, step++) {
                const int32_t dip = (int32_t)(round * 255 / KWS_GOLDEN_ROUNDS);
                const kws_golden_event *const expected = &kws_golden_decisions[events];
                int8_t posteriors[KWS_N_LABELS];
                uint16_t score_q15;
                int label;

                random = make_posteriors(posteriors, k, i < KWS_GOLDEN_STRETCH ? 255 : dip, random);
                label = kws_decide_step(&detector->decide, posteriors, &score_q15);
                if (label == KWS_NO_KEYWORD) {
                    continue;
                }
                if (label != expected->keyword || score_q15 != expected->score_q15 ||
                    step != expected->when) {
                    return 0;
                }
                events++;
            }
        }
    }
    return events == KWS_GOLDEN_DECISIONS;
}
