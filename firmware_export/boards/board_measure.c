/* SPDX-License-Identifier: Apache-2.0 */
/* Counts the instructions and the stack that the library needs for a stretch of audio.
 *
 * SysTick counts down with the core's clock. Under `qemu-system-arm -icount shift=0` an instruction
 * takes exactly one nanosecond of the machine's time, so ticks are proportional to instructions, by
 * a factor that depends on the board's clock and is measured with a loop of known length. The
 * figures are the same in every run.
 *
 * How the instructions divide into parts is measured in a second build of this program. There the
 * linker's --wrap wraps the library's kernels in functions that read the timer before and after.
 * `parts.h` lists them as WRAP(function, part); in the first build it is empty.
 *
 * input.bin is that of board_verify.c with one clip. output.bin, little-endian:
 *   char[4] "KWSM", uint32 bytes of the state, stack bytes, hops, ticks for 2,000,000
 *   instructions, ticks of the longest hop, uint64 ticks of all hops, uint64 ticks of each part */
#include "board.h"

#include "kws.h"

enum { FRONT_END, CONVOLUTIONS, LSTM, PARTS };

#define SYSTICK_CONTROL (*(volatile uint32_t *)0xE000E010u)
#define SYSTICK_RELOAD (*(volatile uint32_t *)0xE000E014u)
#define SYSTICK_VALUE (*(volatile uint32_t *)0xE000E018u)
#define LONGEST 0xFFFFFFu /* the counter has 24 bits */
#define PAINT 0xC5C5C5C5u
#define MOST_STACK 8192 /* words searched, on boards with megabytes of memory */
#define OWN_STACK 16    /* words left for the painting function */

static kws_state state;
static int16_t pcm[KWS_HOP_LENGTH];
static uint64_t ticks_of_part[PARTS];
static int inside;

static uint32_t now(void)
{
    return SYSTICK_VALUE;
}

static uint32_t since(uint32_t start)
{
    return (start - now()) & LONGEST;
}

/* Arguments of the wrapped functions, of any type: each takes one register or word of the stack (Arm's
 * procedure call standard), and passing on more words than there are is harmless. */
typedef uintptr_t word;

/* With --wrap=f the linker redirects calls of f to __wrap_f, and __real_f is f. */
#define WRAP(function, part)                                                                       \
    void __real_##function(word, word, word, word, word, word, word, word);                        \
    void __wrap_##function(word, word, word, word, word, word, word, word);                        \
    void __wrap_##function(word a, word b, word c, word d, word e, word f, word g, word h)         \
    {                                                                                              \
        const uint32_t start = now();                                                              \
        inside++;                                                                                  \
        __real_##function(a, b, c, d, e, f, g, h);                                                 \
        inside--;                                                                                  \
        if (inside == 0) { /* a kernel that calls another counts as a whole */                     \
            ticks_of_part[part] += since(start);                                                   \
        }                                                                                          \
    }
#include "parts.h"

/* Runs 2 n instructions. */
static void spin(uint32_t n)
{
    __asm__ volatile(".syntax unified\n1:\tsubs %0, #1\n\tbne 1b" : "+l"(n) : : "cc");
}

extern uint32_t board_bss_end[];

/* The stack below main's frame is painted before a call; words that have lost their paint afterwards
 * were used. */
static uint32_t *stack_now(void)
{
    uint32_t *sp;
    __asm__ volatile("mov %0, sp" : "=r"(sp));
    return sp;
}

static uint32_t *stack_limit(uint32_t *top)
{
    return top - board_bss_end < MOST_STACK ? board_bss_end : top - MOST_STACK;
}

static void paint(uint32_t *top)
{
    for (uint32_t *p = stack_limit(top); p < top - OWN_STACK; p++) {
        *p = PAINT;
    }
}

static uint32_t painted_over(uint32_t *top)
{
    const uint32_t *p = stack_limit(top);
    while (p < top && *p == PAINT) {
        p++;
    }
    return (uint32_t)((uintptr_t)top - (uintptr_t)p);
}

int main(void)
{
    struct {
        char magic[4];
        uint32_t state_bytes, stack_bytes, hops, calibration, longest;
        uint64_t total;
    } result = {{'K', 'W', 'S', 'M'}, sizeof state, 0, 0, 0, 0, 0};
    uint32_t head[3]; /* magic, number of clips, samples of the first */
    uint32_t *const top = stack_now();

    SYSTICK_RELOAD = LONGEST;
    SYSTICK_VALUE = 0;
    SYSTICK_CONTROL = 5; /* on, core clock, no interrupt */
    uint32_t start = now();
    spin(1000000);
    result.calibration = since(start);

    if (board_read(head, sizeof head) != sizeof head || kws_init(&state) != KWS_OK) {
        board_exit(2);
    }
    for (uint32_t left = head[2]; left >= KWS_HOP_LENGTH; left -= KWS_HOP_LENGTH) {
        kws_event event;
        if (board_read(pcm, sizeof pcm) != sizeof pcm) {
            board_exit(2);
        }
        paint(top);
        start = now();
        const int status = kws_feed(&state, pcm, KWS_HOP_LENGTH, &event);
        const uint32_t took = since(start);
        const uint32_t stack = painted_over(top);
        if (status < 0) {
            board_exit(1);
        }
        result.hops++;
        result.total += took;
        result.longest = took > result.longest ? took : result.longest;
        result.stack_bytes = stack > result.stack_bytes ? stack : result.stack_bytes;
    }
    board_write(&result, sizeof result);
    board_write(ticks_of_part, sizeof ticks_of_part);
    return 0;
}
