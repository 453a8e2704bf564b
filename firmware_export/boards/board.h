/* SPDX-License-Identifier: Apache-2.0 */
/* What the programs in this folder need from their machine, a computer or a board. */
#ifndef BOARD_H
#define BOARD_H

#include <stddef.h>
#include <stdint.h>

/* The input is the file `input.bin` and the output `output.bin` in the folder that the program (or
 * the emulator) was started in. Both are opened by the first call. */

/* Reads up to `size` bytes; returns how many, 0 at the end of the file. */
size_t board_read(void *to, size_t size);

/* Writes `size` bytes; they may wait in a buffer until board_exit. */
void board_write(const void *from, size_t size);

/* Ends the program; status 0 means success. */
#if defined(__GNUC__)
__attribute__((noreturn))
#endif
void board_exit(int status);

#endif
