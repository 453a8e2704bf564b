/*
 * Prints the keywords detected by an INMP441 (or another I2S microphone) on an ESP32 or ESP32-S3.
 * Board package: "esp32" by Espressif, 3.0 or newer, which includes ESP_I2S.
 *
 * Wiring of the INMP441: VDD 3.3 V, GND, L/R to GND (left channel), SCK, WS and SD as below.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include <ESP_I2S.h>
#include <kws.h>
#include <kws_self_test.h>

/* Free on the development boards of both chips. The ESP32's pins 6 to 11 belong to its flash. */
static const int8_t PIN_SCK = 4;
static const int8_t PIN_WS = 18;
static const int8_t PIN_SD = 21;

/* The INMP441 outputs 24 bits, with speech far below full scale. 16 - LOUDER_BITS bits are cut off,
 * so the samples are 2^LOUDER_BITS times as loud as the upper 16 bits. */
static const int LOUDER_BITS = 2;

static I2SClass microphone;
static kws_state state;
static int32_t words[KWS_HOP_LENGTH];
static int16_t pcm[KWS_HOP_LENGTH];

void setup()
{
  Serial.begin(115200);

  unsigned long start = millis();
  int result = kws_self_test(&state);
  unsigned long took = millis() - start;
  Serial.print(result == KWS_OK ? "self-test passed: " : "self-test failed: ");
  Serial.print(took);
  Serial.print(" ms for ");
  Serial.print(KWS_SELF_TEST_MS);
  Serial.println(" ms of audio");
  kws_init(&state);

  microphone.setPins(PIN_SCK, PIN_WS, -1, PIN_SD);
  if (!microphone.begin(I2S_MODE_STD, KWS_SAMPLE_RATE_HZ, I2S_DATA_BIT_WIDTH_32BIT,
                        I2S_SLOT_MODE_MONO, I2S_STD_SLOT_LEFT)) {
    Serial.println("The microphone does not start.");
    while (true) {
      delay(1000);
    }
  }
}

void loop()
{
  /* Waits for a hop of audio. Meanwhile the driver fills its other buffers, which last some 90 ms:
   * what else loop() does must take less, or audio is lost unnoticed. */
  size_t n = microphone.readBytes((char *)words, sizeof words) / sizeof words[0];
  for (size_t i = 0; i < n; i++) {
    int32_t sample = words[i] / (1 << (16 - LOUDER_BITS));
    pcm[i] = (int16_t)(sample > 32767 ? 32767 : sample < -32768 ? -32768 : sample);
  }

  kws_event event;
  if (kws_feed(&state, pcm, n, &event) == KWS_EVENT) {
    Serial.print((double)event.time_samples / KWS_SAMPLE_RATE_HZ);
    Serial.print(" s  ");
    Serial.print(kws_labels[event.keyword]);
    Serial.print("  ");
    Serial.println(event.score_q15 / 32768.0);
  }
}
