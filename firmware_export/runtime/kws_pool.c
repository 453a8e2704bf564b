/*
 * SPDX-License-Identifier: Apache-2.0
 */
#include "kws_kernels.h"

#include "kws_fixed_point.h"

/* The taps from *first to *last - 1 of a window that begins at `at` lie within `size`. */
static void inside(int32_t at, int32_t filter, int32_t size, int32_t *first, int32_t *last)
{
    *first = at < 0 ? 0 : at;
    *last = at + filter > size ? size : at + filter;
}

static int32_t largest(int32_t a, int32_t b)
{
    return a > b ? a : b;
}

static void pool(const kws_pool *p, const int8_t *in, int8_t *out, int average)
{
    int32_t y, x, channel, iy, ix;

    for (y = 0; y < p->output_h; y++) {
        for (x = 0; x < p->output_w; x++) {
            int32_t y0, y1, x0, x1, count;

            inside(y * p->stride_h - p->pad_h, p->filter_h, p->input_h, &y0, &y1);
            inside(x * p->stride_w - p->pad_w, p->filter_w, p->input_w, &x0, &x1);
            count = (y1 - y0) * (x1 - x0);
            for (channel = 0; channel < p->input_c; channel++) {
                int32_t value = average ? 0 : -128;

                for (iy = y0; iy < y1; iy++) {
                    for (ix = x0; ix < x1; ix++) {
                        int32_t v = in[(iy * p->input_w + ix) * p->input_c + channel];

                        value = average ? value + v : largest(value, v);
                    }
                }
                if (average) {
                    /* To the nearest, halves away from zero. */
                    value = (value > 0 ? value + count / 2 : value - count / 2) / count;
                }
                *out++ = (int8_t)kws_clamp(value, p->output_min, p->output_max);
            }
        }
    }
}

void kws_max_pool_s8(const kws_pool *p, const int8_t *in, int8_t *out)
{
    pool(p, in, out, 0);
}

void kws_average_pool_s8(const kws_pool *p, const int8_t *in, int8_t *out)
{
    pool(p, in, out, 1);
}
