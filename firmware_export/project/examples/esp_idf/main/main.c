/*
 * Prints the keywords detected by an INMP441 (or another I2S microphone) on an ESP32 or ESP32-S3,
 * with ESP-IDF 5:
 *
 *     idf.py set-target esp32s3 && idf.py build flash monitor
 *
 * Wiring of the INMP441: VDD 3.3 V, GND, L/R to GND (left channel), SCK, WS and SD as below.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include <stdbool.h>
#include <stdio.h>

#include "driver/gpio.h"
#include "driver/i2s_std.h"
#include "esp_attr.h"
#include "esp_err.h"
#include "esp_timer.h"
#include "freertos/FreeRTOS.h"
#include "freertos/task.h"
#include "kws.h"
#include "kws_self_test.h"

/* Free on the development boards of both chips. The ESP32's pins 6 to 11 belong to its flash. */
#define PIN_SCK GPIO_NUM_4
#define PIN_WS GPIO_NUM_18
#define PIN_SD GPIO_NUM_21

/* The INMP441 outputs 24 bits, with speech far below full scale. 16 - LOUDER_BITS bits are cut off, so
 * the samples are 2^LOUDER_BITS times as loud as the upper 16 bits. */
#define LOUDER_BITS 2

static kws_state state;
static int32_t words[KWS_HOP_LENGTH];
static int16_t pcm[KWS_HOP_LENGTH];
static volatile bool lost; /* set by the interrupt: the driver's buffers were full */

/* Called by the driver's interrupt when it overwrites unread audio. */
static bool IRAM_ATTR on_overflow(i2s_chan_handle_t microphone, i2s_event_data_t *event, void *unused)
{
    (void)microphone;
    (void)event;
    (void)unused;
    lost = true;
    return false; /* no task was woken */
}

static i2s_chan_handle_t open_microphone(void)
{
    i2s_chan_handle_t microphone = NULL;
    i2s_chan_config_t channel = I2S_CHANNEL_DEFAULT_CONFIG(I2S_NUM_AUTO, I2S_ROLE_MASTER);
    const i2s_event_callbacks_t callbacks = {.on_recv_q_ovf = on_overflow};
    i2s_std_config_t config = {
        .clk_cfg = I2S_STD_CLK_DEFAULT_CONFIG(KWS_SAMPLE_RATE_HZ),
        .slot_cfg =
            I2S_STD_PHILIPS_SLOT_DEFAULT_CONFIG(I2S_DATA_BIT_WIDTH_32BIT, I2S_SLOT_MODE_MONO),
        .gpio_cfg =
            {
                .mclk = I2S_GPIO_UNUSED,
                .bclk = PIN_SCK,
                .ws = PIN_WS,
                .dout = I2S_GPIO_UNUSED,
                .din = PIN_SD,
            },
    };

    channel.dma_desc_num = 8; /* 160 ms, for other tasks that take long */
    channel.dma_frame_num = KWS_HOP_LENGTH;
    config.slot_cfg.slot_mask = I2S_STD_SLOT_LEFT;
    ESP_ERROR_CHECK(i2s_new_channel(&channel, NULL, &microphone));
    ESP_ERROR_CHECK(i2s_channel_init_std_mode(microphone, &config));
    ESP_ERROR_CHECK(i2s_channel_register_event_callback(microphone, &callbacks, NULL));
    ESP_ERROR_CHECK(i2s_channel_enable(microphone));
    return microphone;
}

static int16_t to_16_bits(int32_t word)
{
    const int32_t sample = word / (1 << (16 - LOUDER_BITS));

    return (int16_t)(sample > 32767 ? 32767 : sample < -32768 ? -32768 : sample);
}

static void listen(void *unused)
{
    i2s_chan_handle_t microphone;
    const int64_t start_us = esp_timer_get_time();
    const int result = kws_self_test(&state);
    const unsigned long took_ms = (unsigned long)((esp_timer_get_time() - start_us) / 1000);

    (void)unused;
    printf("self-test %s: %lu ms for %lu ms of audio\n", result == KWS_OK ? "passed" : "failed",
           took_ms, KWS_SELF_TEST_MS);
    kws_init(&state);
    microphone = open_microphone();
    for (;;) {
        kws_event event;
        size_t bytes = 0;
        size_t n, i;

        if (i2s_channel_read(microphone, words, sizeof words, &bytes, 1000) != ESP_OK) {
            printf("no audio; is the microphone connected?\n");
            lost = true;
            continue;
        }
        if (lost) {
            /* Audio is missing, so the stream must begin anew. */
            lost = false;
            kws_reset(&state);
            printf("audio was lost\n");
        }
        n = bytes / sizeof words[0];
        for (i = 0; i < n; i++) {
            pcm[i] = to_16_bits(words[i]);
        }
        if (kws_feed(&state, pcm, n, &event) == KWS_EVENT) {
            const uint64_t ms = event.time_samples * 1000 / KWS_SAMPLE_RATE_HZ;

            printf("%lu.%02lu s  %s  0.%02u\n", (unsigned long)(ms / 1000),
                   (unsigned long)(ms % 1000 / 10), kws_labels[event.keyword],
                   (unsigned)(event.score_q15 * 100u / 32768u));
        }
    }
}

void app_main(void)
{
    xTaskCreate(listen, "kws", 4096, NULL, 5, NULL);
}
