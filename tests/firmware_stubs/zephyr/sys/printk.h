#ifndef ZEPHYR_PRINTK_H
#define ZEPHYR_PRINTK_H
void printk(const char *format, ...) __attribute__((format(printf, 1, 2)));
#endif
