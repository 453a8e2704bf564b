/* Of Arduino's PDM library what the example uses. */
#ifndef PDM_H
#define PDM_H

#include <Arduino.h>

class PDMClass {
public:
  int begin(int channels, int sampleRate);
  int read(void *buffer, size_t size);
  void onReceive(void (*function)(void));
  void setGain(int gain);
};
extern PDMClass PDM;

#endif
