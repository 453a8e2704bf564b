/*
 * Runs networks from a file through the kernels; for tests only.
 *
 * Everything is a sequence of little-endian int32 and bytes, with the layout that
 * test_firmware_kernels.py writes. Every array gets memory of just its size, so that the address
 * sanitizer sees each byte too many.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kws_kernels.h"

static int32_t number(void)
{
    int32_t n;

    if (fread(&n, sizeof n, 1, stdin) != 1) {
        exit(3);
    }
    return n;
}

/* An array at an address that is a multiple of `alignment` and of nothing larger. */
static char *block(size_t size, size_t alignment, char **memory)
{
    char *at;

    *memory = malloc(size + alignment);
    at = *memory + (alignment == 1 ? 1 : 0);
    if (size != 0 && fread(at, size, 1, stdin) != 1) {
        exit(3);
    }
    return at;
}

static void call(int32_t function, const void *p, int8_t **args)
{
    switch (function) {
    case 0: kws_conv_s8(p, args[0], args[1]); break;
    case 1: kws_depthwise_s8(p, args[0], args[1]); break;
    case 2: kws_max_pool_s8(p, args[0], args[1]); break;
    case 3: kws_average_pool_s8(p, args[0], args[1]); break;
    case 4: kws_add_s8(p, args[0], args[1], args[2]); break;
    case 5: kws_fully_connected_s8(p, args[0], args[1]); break;
    case 6: kws_lstm_s8(p, args[0], args[1], args[2], (int16_t *)(void *)args[3]); break;
    case 7: kws_softmax_s8(p, args[0], args[1]); break;
    case 8: kws_lut_s8(p, args[0], args[1]); break;
    case 9: kws_mean_s8(p, args[0], args[1]); break;
    case 10: kws_strided_slice_s8(p, args[0], args[1]); break;
    case 11: kws_pad_s8(p, args[0], args[1]); break;
    case 12: kws_quantize_s8(p, args[0], args[1]); break;
    default: exit(4);
    }
}

static const size_t sizes[] = {
    sizeof(kws_conv),    sizeof(kws_depthwise),       sizeof(kws_pool), sizeof(kws_pool),
    sizeof(kws_add),     sizeof(kws_fully_connected), sizeof(kws_lstm), sizeof(kws_softmax),
    sizeof(kws_lut),     sizeof(kws_mean),            sizeof(kws_strided_slice),
    sizeof(kws_pad),     sizeof(kws_quantize),
};

enum { MOST = 64 };

static void network(void)
{
    char *memory[MOST * 20];
    int8_t *buffers[MOST], *args[MOST][4];
    void *parameters[MOST];
    int32_t functions[MOST], buffer_sizes[MOST];
    int32_t outputs[MOST];
    int32_t n_memory = 0, n_buffers, n_calls, n_inputs, n_outputs, n_steps, i, j, n;

    n_buffers = number();
    for (i = 0; i < n_buffers; i++) {
        n = number(); /* alignment */
        buffer_sizes[i] = number();
        buffers[i] = (int8_t *)block((size_t)buffer_sizes[i], (size_t)n, &memory[n_memory++]);
    }
    n_calls = number();
    for (i = 0; i < n_calls; i++) {
        functions[i] = number();
        n = number();
        if ((size_t)n != sizes[functions[i]]) {
            fprintf(stderr, "parameters of %d: %d bytes\n", (int)functions[i], (int)n);
            exit(5);
        }
        parameters[i] = block((size_t)n, 16, &memory[n_memory++]);
        n = number();
        for (j = 0; j < n; j++) { /* pointers among the parameters */
            int32_t offset = number(), alignment = number(), size = number();
            char *array = block((size_t)size, (size_t)alignment, &memory[n_memory++]);

            memcpy((char *)parameters[i] + offset, &array, sizeof array);
        }
        n = number();
        for (j = 0; j < n; j++) {
            args[i][j] = buffers[number()];
        }
    }
    n_inputs = number();
    n_outputs = number();
    for (i = 0; i < n_outputs; i++) {
        outputs[i] = number();
    }
    n_steps = number();
    for (n = 0; n < n_steps; n++) {
        int32_t inputs[4];

        for (i = 0; i < n_inputs; i++) {
            inputs[i] = number();
            if (fread(buffers[inputs[i]], (size_t)buffer_sizes[inputs[i]], 1, stdin) != 1) {
                exit(3);
            }
        }
        for (i = 0; i < n_calls; i++) {
            call(functions[i], parameters[i], args[i]);
        }
        for (i = 0; i < n_outputs; i++) {
            fwrite(buffers[outputs[i]], (size_t)buffer_sizes[outputs[i]], 1, stdout);
        }
    }
    for (i = 0; i < n_memory; i++) {
        free(memory[i]);
    }
}

int main(void)
{
    int32_t n;

    for (n = number(); n > 0; n--) {
        network();
    }
    return 0;
}
