#ifndef ZEPHYR_DEVICE_H
#define ZEPHYR_DEVICE_H
#include <stdbool.h>
struct device {
	const char *name;
};
bool device_is_ready(const struct device *device);
extern const struct device stub_device;
#define DEVICE_DT_GET(node) (&stub_device)
#endif
