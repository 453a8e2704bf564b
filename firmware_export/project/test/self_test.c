/*
 * Runs the library's self-test on this computer (`ctest`).
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#include <stdio.h>

#include "kws_self_test.h"

int main(void)
{
    static kws_state state;
    const int result = kws_self_test(&state);

    switch (result) {
    case KWS_OK:
        printf("kws self-test: passed\n");
        return 0;
    case KWS_ERROR_FRONT_END:
        printf("kws self-test: the features differ\n");
        return 1;
    case KWS_ERROR_NETWORK:
        printf("kws self-test: the features are right, the posteriors differ\n");
        return 1;
    case KWS_ERROR_DECISION:
        printf("kws self-test: features and posteriors are right, the events differ\n");
        return 1;
    default:
        printf("kws self-test: error %d\n", result);
        return 1;
    }
}
