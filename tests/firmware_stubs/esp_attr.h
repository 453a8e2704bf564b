/* Of ESP-IDF's attributes what the example uses. */
#ifndef ESP_ATTR_H
#define ESP_ATTR_H

#define IRAM_ATTR

#endif
