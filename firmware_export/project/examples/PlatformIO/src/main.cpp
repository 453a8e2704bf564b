// The sketch of the Arduino example; PlatformIO wants C++ and finds libraries by what this file includes.
#include <Arduino.h>
#include <PDM.h>
#include <kws.h>

#include "../../Microphone/Microphone.ino"
