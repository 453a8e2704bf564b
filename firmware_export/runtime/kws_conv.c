/*
 * SPDX-License-Identifier: Apache-2.0
 */
#include "kws_kernels.h"

#include "kws_dot.h"
#include "kws_fixed_point.h"

/* Adds the products of the padding: `n` taps of each row, all of the value `padding`. */
static void add_padding(int32_t padding, const int8_t *weights, int32_t stride, int32_t n,
                        int32_t rows, int32_t *sums)
{
    int32_t row, i;

    for (row = 0; row < rows; row++) {
        for (i = 0; i < n; i++) {
            sums[row] += padding * weights[row * stride + i];
        }
    }
}

/* Adds the products of one window, whose first tap is at (y, x), with 1 ... 4 filters. */
static void add_window(const kws_conv *p, const int8_t *in, int32_t y, int32_t x,
                       const int8_t *weights, int32_t rows, int32_t *sums)
{
    const int32_t line = p->filter_w * p->input_c;
    const int32_t stride = p->filter_h * line;
    const int unbroken = p->dilation_w == 1 && x >= 0 && x + p->filter_w <= p->input_w;
    int32_t fy, fx;

    for (fy = 0; fy < p->filter_h; fy++, y += p->dilation_h) {
        const int8_t *taps = weights + fy * line;

        if (y < 0 || y >= p->input_h) {
            add_padding(p->input_zero_point, taps, stride, line, rows, sums);
        } else if (unbroken) {
            kws_dot_rows_s8(in + (y * p->input_w + x) * p->input_c, taps, stride, line, rows, sums);
        } else {
            int32_t at = x;

            for (fx = 0; fx < p->filter_w; fx++, at += p->dilation_w, taps += p->input_c) {
                if (at < 0 || at >= p->input_w) {
                    add_padding(p->input_zero_point, taps, stride, p->input_c, rows, sums);
                } else {
                    kws_dot_rows_s8(in + (y * p->input_w + at) * p->input_c, taps, stride,
                                    p->input_c, rows, sums);
                }
            }
        }
    }
}

void kws_conv_s8(const kws_conv *p, const int8_t *in, int8_t *out)
{
    const int32_t filter = p->filter_h * p->filter_w * p->input_c;
    int32_t y, x, channel, i;

    for (y = 0; y < p->output_h; y++) {
        for (x = 0; x < p->output_w; x++) {
            for (channel = 0; channel < p->output_c; channel += 4) {
                const int32_t left = p->output_c - channel;
                const int32_t rows = left < 4 ? left : 4;
                int32_t sums[4];

                for (i = 0; i < rows; i++) {
                    sums[i] = p->bias[channel + i];
                }
                add_window(p, in, y * p->stride_h - p->pad_h, x * p->stride_w - p->pad_w,
                           p->weights + channel * filter, rows, sums);
                for (i = 0; i < rows; i++) {
                    int32_t value = kws_scale_up(sums[i], p->multipliers[channel + i],
                                                   p->shifts[channel + i]);

                    value = kws_clamp(value, -1024, 1024) + p->output_zero_point;
                    *out++ = (int8_t)kws_clamp(value, p->output_min, p->output_max);
                }
            }
        }
    }
}
