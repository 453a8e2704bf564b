/*
 * SPDX-License-Identifier: Apache-2.0
 */
#include "kws_kernels.h"

#include "kws_fixed_point.h"

/* The products of one window, whose first tap is at (y, x), for one output channel. */
static int32_t window(const kws_depthwise *p, const int8_t *in, int32_t y, int32_t x,
                      const int8_t *weights)
{
    int32_t sum = 0;
    int32_t fy, fx;

    for (fy = 0; fy < p->filter_h; fy++, y += p->dilation_h) {
        int32_t at = x;

        for (fx = 0; fx < p->filter_w; fx++, at += p->dilation_w, weights += p->output_c) {
            if (y < 0 || y >= p->input_h || at < 0 || at >= p->input_w) {
                sum += p->input_zero_point * *weights;
            } else {
                sum += in[(y * p->input_w + at) * p->input_c] * *weights;
            }
        }
    }
    return sum;
}

void kws_depthwise_s8(const kws_depthwise *p, const int8_t *in, int8_t *out)
{
    const int32_t times = p->output_c / p->input_c;
    int32_t y, x, input, i;

    for (y = 0; y < p->output_h; y++) {
        for (x = 0; x < p->output_w; x++) {
            int32_t channel = 0;

            for (input = 0; input < p->input_c; input++) {
                for (i = 0; i < times; i++, channel++) {
                    int32_t value = p->bias[channel];

                    value += window(p, in + input, y * p->stride_h - p->pad_h,
                                    x * p->stride_w - p->pad_w, p->weights + channel);
                    value = kws_scale(value, p->multipliers[channel], p->shifts[channel],
                                      channel < p->channels_up);
                    value = kws_clamp(value, -1024, 1024) + p->output_zero_point;
                    *out++ = (int8_t)kws_clamp(value, p->output_min, p->output_max);
                }
            }
        }
    }
}
