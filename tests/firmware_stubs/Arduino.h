/* Of Arduino's core what the example uses. */
#ifndef ARDUINO_H
#define ARDUINO_H

#include <stddef.h>
#include <stdint.h>

/* As in ArduinoCore-API, where modes and states are types of their own and numbers none of them. */
typedef enum { LOW = 0, HIGH = 1 } PinStatus;
typedef enum { INPUT = 0, OUTPUT = 1 } PinMode;
#define LED_BUILTIN 13
#define min(a, b) ((a) < (b) ? (a) : (b))

void pinMode(int pin, PinMode mode);
void digitalWrite(int pin, PinStatus value);
PinStatus digitalRead(int pin);
unsigned long millis();
void delay(unsigned long ms);
void noInterrupts();
void interrupts();

struct Console {
  void begin(unsigned long baud);
  explicit operator bool();
  size_t print(const char *text);
  size_t print(unsigned long number);
  size_t print(double number, int digits = 2);
  size_t println(const char *text);
  size_t println(double number, int digits = 2);
};
extern Console Serial;

#endif
