// The sketch of the Arduino example; PlatformIO needs C++, and finds libraries by these includes.
#include <Arduino.h>
#include <PDM.h>
#include <kws.h>

#include "../../Microphone/Microphone.ino"
