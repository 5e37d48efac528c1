/* What the model room's tests share. */
#ifndef TESTS_MODEL_CHECK_H
#define TESTS_MODEL_CHECK_H

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/arena.h"
#include "base/status.h"
#include "model/safetensors.h"

#define OK(call) check_ok((call), __FILE__, __LINE__)

static inline void check_ok(Status status, const char *file, int line)
{
    if (status != STATUS_OK)
        fail_msg("%s:%d: %s: %s\n%s", file, line, status_name(status), status_message(), status_trail());
}

/* That a call fails with `want` and says `words`. */
#define FAILS(call, want, words) check_fails((call), (want), (words), __FILE__, __LINE__)

static inline void check_fails(Status status, Status want, const char *words, const char *file, int line)
{
    if (status != want) fail_msg("%s:%d: %s where %s was expected", file, line, status_name(status), status_name(want));
    if (strstr(status_message(), words) == NULL)
        fail_msg("%s:%d: '%s' does not say '%s'", file, line, status_message(), words);
}

/* A tensor's values as floats; the caller frees. `count` may be NULL. */
static inline float *read_tensor(const Safetensors *file, const char *name, int64_t *count)
{
    const SafeTensor *t = safetensors_find(file, name);
    if (t == NULL) {
        fail_msg("tensor %s is missing", name);
        return NULL;
    }
    float *values = mem_alloc_array((size_t)t->count + 1, sizeof *values);
    assert_non_null(values);
    safetensors_to_f32(t, values);
    if (count != NULL) *count = t->count;
    return values;
}

/* |a - b| / |b|. */
static inline double relative_l2(const float *a, const float *b, int64_t count)
{
    double difference = 0, size = 0;
    for (int64_t i = 0; i < count; i++) {
        difference += ((double)a[i] - b[i]) * ((double)a[i] - b[i]);
        size += (double)b[i] * b[i];
    }
    return sqrt(difference / size);
}

#endif
