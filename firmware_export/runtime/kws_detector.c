/*
 * SPDX-License-Identifier: Apache-2.0
 */
#include "kws_detector.h"

#include <string.h>

#include "kws_input.h"

void kws_detector_init(kws_detector *detector)
{
    kws_decide_init(&detector->decide);
    kws_detector_reset(detector);
}

void kws_detector_reset(kws_detector *detector)
{
    detector->steps = 0;
    detector->features_held = 0;
    memset(detector->features, 0, sizeof detector->features);
    memset(detector->posteriors, -128, sizeof detector->posteriors);
    kws_model_reset(&detector->model);
    kws_decide_reset(&detector->decide);
}

int kws_detector_take(kws_detector *detector, int32_t *work, const int32_t *mfcc_q16,
                      uint16_t *score_q15)
{
    enum { KEPT = KWS_RECEPTIVE_FRAMES - KWS_STRIDE_FRAMES }; /* frames that the next step shares */
    int8_t *const features = detector->features;

    kws_input_quantise(mfcc_q16, &features[detector->features_held * KWS_N_MFCC]);
    detector->features_held++;
    if (detector->features_held < KWS_RECEPTIVE_FRAMES) {
        return KWS_NO_KEYWORD;
    }
    kws_model_invoke(&detector->model, work, features, detector->posteriors);
    detector->steps++;
    memmove(features, &features[KWS_STRIDE_FRAMES * KWS_N_MFCC], KEPT * KWS_N_MFCC);
    detector->features_held = KEPT;
    return kws_decide_step(&detector->decide, detector->posteriors, score_q15);
}
