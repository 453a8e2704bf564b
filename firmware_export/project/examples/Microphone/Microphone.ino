/*
 * Prints the keywords detected by the microphone of an Arduino Nano 33 BLE Sense (or a Nano RP2040
 * Connect). Board package: "Arduino Mbed OS Nano Boards", which includes PDM.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include <PDM.h>
#include <kws.h>
#include <kws_self_test.h>

#if KWS_SAMPLE_RATE_HZ != 16000
#error "These boards' microphones sample at 16 kHz."
#endif

/* From the interrupt to loop(): 128 ms of audio. The interrupt moves `written`, loop() `taken`. */
static const uint32_t RING = 2048; /* samples, a power of two */
static int16_t ring[RING];
static volatile uint32_t written = 0; /* samples since the beginning */
static volatile bool lost = false;
static volatile uint32_t taken = 0;

static kws_state state;

/* Called by the interrupt of the microphone whenever it has filled a buffer of 512 bytes. */
static void onMicrophone()
{
  static int16_t block[256];
  int n = PDM.read(block, sizeof block) / 2;
  for (int i = 0; i < n; i++) {
    ring[(written + i) % RING] = block[i];
  }
  if (written + n - taken > RING) {
    lost = true;
  }
  written = written + n;
}

void setup()
{
  Serial.begin(115200);
  while (!Serial && millis() < 3000) {
  }
  pinMode(LED_BUILTIN, OUTPUT);

  unsigned long start = millis();
  int result = kws_self_test(&state);
  unsigned long took = millis() - start;
  Serial.print(result == KWS_OK ? "self-test passed: " : "self-test failed: ");
  Serial.print(took);
  Serial.print(" ms for ");
  Serial.print(KWS_SELF_TEST_MS);
  Serial.println(" ms of audio");
  kws_init(&state);

  PDM.onReceive(onMicrophone);
  if (!PDM.begin(1, KWS_SAMPLE_RATE_HZ)) {
    Serial.println("The microphone does not start.");
    while (true) {
    }
  }
  /* Loud enough for speech at one metre (nRF52840: 0 to 80, steps of half a decibel, 40 is 0 dB). */
  PDM.setGain(60);
}

void loop()
{
  if (lost) {
    /* Audio is missing, so the stream must begin anew. */
    noInterrupts();
    lost = false;
    taken = written;
    interrupts();
    kws_reset(&state);
    Serial.println("too slow: audio was lost");
  }
  uint32_t n = written - taken;
  if (n == 0) {
    return;
  }
  /* One contiguous piece, short enough that the ring is soon free again. */
  uint32_t start = taken % RING;
  n = min(n, min(RING - start, (uint32_t)KWS_HOP_LENGTH));

  kws_event event;
  int result = kws_feed(&state, &ring[start], n, &event);
  taken = taken + n;
  if (result == KWS_EVENT) {
    digitalWrite(LED_BUILTIN, digitalRead(LED_BUILTIN) == LOW ? HIGH : LOW);
    Serial.print((double)event.time_samples / KWS_SAMPLE_RATE_HZ);
    Serial.print(" s  ");
    Serial.print(kws_labels[event.keyword]);
    Serial.print("  ");
    Serial.println(event.score_q15 / 32768.0);
  }
}
