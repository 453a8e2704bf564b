// The sketch of the Arduino example; PlatformIO wants C++.
#include <Arduino.h>

#include "../../Microphone/Microphone.ino"
