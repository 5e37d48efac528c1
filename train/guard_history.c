#include "train/guard_history.h"

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"

/* Standard deviation over median distance of a normal distribution: 1 / its third quartile. */
#define NORMAL_SPREAD 1.4826022185056018

Status guard_history_create(int64_t capacity, GuardHistory *out)
{
    Status status = STATUS_OK;
    *out = (GuardHistory){.capacity = capacity};
    out->values = mem_alloc_array((size_t)capacity, sizeof *out->values);
    out->sorted = mem_alloc_array((size_t)capacity, sizeof *out->sorted);
    if (!out->values || !out->sorted)
        FAIL(ERR_MEMORY, "no memory for the last %lld values of a series", (long long)capacity);
    return STATUS_OK;
fail:
    guard_history_free(out);
    return status;
}

void guard_history_free(GuardHistory *history)
{
    free(history->values);
    free(history->sorted);
    *history = (GuardHistory){0};
}

/* How many of the sorted values are below `value`. */
static int64_t count_below(const GuardHistory *h, double value)
{
    int64_t low = 0, high = h->count;
    while (low < high) {
        const int64_t middle = (low + high) / 2;
        if (h->sorted[middle] < value)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

void guard_history_add(GuardHistory *h, double value)
{
    if (h->count == h->capacity) {
        const int64_t at = count_below(h, h->values[0]);
        h->count--;
        memmove(h->values, h->values + 1, (size_t)h->count * sizeof *h->values);
        memmove(h->sorted + at, h->sorted + at + 1, (size_t)(h->count - at) * sizeof *h->sorted);
    }
    const int64_t at = count_below(h, value);
    memmove(h->sorted + at + 1, h->sorted + at, (size_t)(h->count - at) * sizeof *h->sorted);
    h->sorted[at] = value;
    h->values[h->count++] = value;
}

void guard_history_measure(const GuardHistory *h, double *middle, double *spread)
{
    const int64_t half = h->count / 2;
    const bool even = h->count % 2 == 0;
    *middle = even ? 0.5 * (h->sorted[half - 1] + h->sorted[half]) : h->sorted[half];
    /* Distances in ascending order: from the middle outwards, on the side that is nearer. */
    int64_t right = count_below(h, *middle), left = right - 1;
    double distance = 0, before = 0;
    for (int64_t k = 0; k <= half; k++) {
        const double to_left = left >= 0 ? *middle - h->sorted[left] : INFINITY;
        const double to_right = right < h->count ? h->sorted[right] - *middle : INFINITY;
        before = distance;
        distance = to_left < to_right ? to_left : to_right;
        if (to_left < to_right)
            left--;
        else
            right++;
    }
    *spread = NORMAL_SPREAD * (even ? 0.5 * (before + distance) : distance);
}
