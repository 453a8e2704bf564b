/*
 * From frames to events: the network of one model, and its decisions.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef KWS_DETECTOR_H
#define KWS_DETECTOR_H

#include <stdint.h>

#include "kws_decide.h"
#include "kws_model.h"

#ifdef __cplusplus
extern "C" {
#endif

/* What a model remembers from frame to frame. */
typedef struct kws_detector {
    uint64_t steps;          /* of the network since the beginning of the stream */
    kws_decide_state decide; /* moving sums of the posteriors */
    uint32_t features_held;  /* frames waiting in features, 0 to KWS_RECEPTIVE_FRAMES - 1 */
    kws_model_state model;   /* what the network carries from step to step */
    int8_t features[KWS_RECEPTIVE_FRAMES * KWS_N_MFCC]; /* [frame, coefficient], the network's scale */
    int8_t posteriors[KWS_N_LABELS]; /* newest; probability = (value + 128) / 256 */
} kws_detector;

/* Set the model's own thresholds and begin a stream. */
void kws_detector_init(kws_detector *detector);

/* Begin a stream, keeping the thresholds. */
void kws_detector_reset(kws_detector *detector);

/*
 * Take the next frame; run the network and decide if it completes a step.
 *
 * work       int32 [KWS_WORK_WORDS], overwritten
 * mfcc_q16   int32 [KWS_N_MFCC], of the frame
 * score_q15  written if a keyword fires: its mean posterior, Q15, rounded down
 *
 * Returns the label that fires, or KWS_NO_KEYWORD.
 */
int kws_detector_take(kws_detector *detector, int32_t *work, const int32_t *mfcc_q16,
                      uint16_t *score_q15);

#ifdef __cplusplus
}
#endif

#endif
