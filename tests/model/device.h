/* Which backend the tests of networks run on, and where their files are. The environment may tell both, so that
 * launch/test-gpu runs the same tests on a GPU, from a packed folder too. */
#ifndef TESTS_MODEL_DEVICE_H
#define TESTS_MODEL_DEVICE_H

#include <stdlib.h>

#include "engine/backend.h"

/* VASILY_TEST_DEVICE: cpu (the default), ref or cuda. */
static inline const char *test_device_name(void)
{
    const char *told = getenv("VASILY_TEST_DEVICE");
    return told != NULL && told[0] != '\0' ? told : "cpu";
}

/* To be passed where backend_open_ref is. Always algorithms that give the same bits twice. */
static inline Status test_device_open(const BackendOptions *options, Backend **out)
{
    BackendOptions exact = *options;
    exact.deterministic = true;
    return backend_open(test_device_name(), &exact, out);
}

/* The folder tests/, or its packed copy. */
static inline const char *test_folder(void)
{
    const char *told = getenv("VASILY_TEST_FOLDER");
    return told != NULL && told[0] != '\0' ? told : TEST_SOURCE_DIR;
}

#endif
