/* Of arduino-esp32's ESP_I2S library (3.0) what the example uses. */
#ifndef ESP_I2S_H
#define ESP_I2S_H

#include <Arduino.h>
#include <driver/i2s_std.h>

typedef enum { I2S_MODE_STD, I2S_MODE_MAX } i2s_mode_t;

class I2SClass {
public:
  void setPins(int8_t bclk, int8_t ws, int8_t dout, int8_t din = -1, int8_t mclk = -1);
  bool begin(i2s_mode_t mode, uint32_t rate, i2s_data_bit_width_t bits, i2s_slot_mode_t channels,
             int8_t slotMask = -1);
  size_t readBytes(char *buffer, size_t size);
};

#endif
