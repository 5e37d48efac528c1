/* What every test here begins with. */
#ifndef TESTS_BASE_CHECK_H
#define TESTS_BASE_CHECK_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/status.h"

/* The call succeeds; if not, its message is shown. */
#define assert_ok(call)                                                                                  \
    do {                                                                                                 \
        Status status_ = (call);                                                                         \
        if (status_ != STATUS_OK) fail_msg("%s: %s: %s", #call, status_name(status_), status_message()); \
    } while (0)

/* The call fails with `code`, and the message contains `words`. */
#define assert_fails(call, code, words)                                                            \
    do {                                                                                           \
        Status status_ = (call);                                                                   \
        if (status_ != (code)) fail_msg("%s gave %s, not %s", #call, status_name(status_), #code); \
        if (!strstr(status_message(), (words)))                                                    \
            fail_msg("%s said \"%s\", without \"%s\"", #call, status_message(), (words));          \
    } while (0)

#endif
