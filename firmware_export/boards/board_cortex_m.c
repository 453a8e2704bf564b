/* SPDX-License-Identifier: Apache-2.0 */
/* board.h on a Cortex-M under a debugger or emulator with semihosting: the program stops at BKPT 0xAB,
 * and the host reads or writes one of its files (Arm, "Semihosting for AArch32 and AArch64"). Also
 * the vector table and the start-up code. */
#include "board.h"

#include <string.h>

/* --- semihosting ------------------------------------------------------------------------------ */

enum {
    SYS_OPEN = 0x01,
    SYS_CLOSE = 0x02,
    SYS_WRITE = 0x05,
    SYS_READ = 0x06,
    SYS_EXIT_EXTENDED = 0x20,
    STOPPED_BY_PROGRAM = 0x20026, /* ADP_Stopped_ApplicationExit */
    MODE_RB = 1,
    MODE_WB = 5,
};

static int semihost(int operation, const void *arguments)
{
    register int r0 __asm__("r0") = operation;
    register const void *r1 __asm__("r1") = arguments;
    __asm__ volatile("bkpt 0xab" : "+r"(r0) : "r"(r1) : "memory");
    return r0;
}

/* A buffer, because a stop costs the emulator far more than a byte. It is small: the micro:bit has
 * 16 kB in all. */
static uint8_t write_buffer[512];
static size_t written;
static int input = -1, output = -1;

static int opened(const char *name, int mode)
{
    const uintptr_t arguments[3] = {(uintptr_t)name, (uintptr_t)mode, strlen(name)};
    const int handle = semihost(SYS_OPEN, arguments);
    if (handle < 0) {
        board_exit(3);
    }
    return handle;
}

size_t board_read(void *to, size_t size)
{
    if (input < 0) {
        input = opened("input.bin", MODE_RB);
    }
    const uintptr_t arguments[3] = {(uintptr_t)input, (uintptr_t)to, size};
    return size - (size_t)semihost(SYS_READ, arguments); /* it returns the number missing */
}

static void flush(void)
{
    if (written == 0) {
        return;
    }
    if (output < 0) {
        output = opened("output.bin", MODE_WB);
    }
    const uintptr_t arguments[3] = {(uintptr_t)output, (uintptr_t)write_buffer, written};
    written = 0;
    if (semihost(SYS_WRITE, arguments) != 0) {
        board_exit(3);
    }
}

void board_write(const void *from, size_t size)
{
    const uint8_t *bytes = from;
    for (size_t i = 0; i < size; i++) {
        if (written == sizeof write_buffer) {
            flush();
        }
        write_buffer[written++] = bytes[i];
    }
}

void board_exit(int status)
{
    flush();
    if (output >= 0) {
        const uintptr_t handle = (uintptr_t)output;
        semihost(SYS_CLOSE, &handle);
    }
    const uintptr_t arguments[2] = {STOPPED_BY_PROGRAM, (uintptr_t)status};
    semihost(SYS_EXIT_EXTENDED, arguments);
    for (;;) {
    }
}

/* --- start ------------------------------------------------------------------------------------ */

extern uint32_t board_data_start[], board_data_end[], board_bss_start[], board_bss_end[];
extern const uint32_t board_data_source[];
extern uint32_t board_stack_top[];

int main(void);
void board_reset(void);

void board_reset(void)
{
#if defined(__ARM_FP)
    /* Enable the floating-point registers (CPACR: full access to CP10, CP11). */
    *(volatile uint32_t *)0xE000ED88u |= 0xFu << 20;
    __asm__ volatile("dsb\n\tisb" ::: "memory");
#endif
    for (size_t i = 0; board_data_start + i < board_data_end; i++) {
        board_data_start[i] = board_data_source[i];
    }
    for (uint32_t *word = board_bss_start; word < board_bss_end; word++) {
        *word = 0;
    }
    board_exit(main());
}

/* Any exception is a fault, as no interrupt is ever enabled. */
static void faulted(void)
{
    written = 0;
    board_exit(4);
}

typedef void (*handler)(void);

__attribute__((section(".board_vectors"), used)) static const struct {
    uint32_t *stack;
    handler handlers[15]; /* reset, NMI, hard fault, … , SysTick */
} vectors = {
    board_stack_top,
    {
        board_reset, faulted, faulted, faulted, faulted, faulted, faulted, faulted,
        faulted,     faulted, faulted, faulted, faulted, faulted, faulted,
    },
};
