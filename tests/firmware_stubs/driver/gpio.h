#ifndef DRIVER_GPIO_H
#define DRIVER_GPIO_H
typedef enum { GPIO_NUM_NC = -1, GPIO_NUM_4 = 4, GPIO_NUM_18 = 18, GPIO_NUM_21 = 21 } gpio_num_t;
#endif
