#include "train/axis.h"

#include <math.h>

static void add_tick(Axis *axis, double value)
{
    if (axis->count < AXIS_TICKS_MAX) axis->ticks[axis->count++] = value;
}

/* 1, 2 or 5 times a power of ten, the least that is not below `value`. */
static double round_up(double value)
{
    const double power = pow(10, floor(log10(value)));
    const double digits = value / power;
    return (digits <= 1.0000001 ? 1 : digits <= 2.0000001 ? 2 : digits <= 5.0000001 ? 5 : 10) * power;
}

/* Two different bounds around a single value. */
static void spread(double *low, double *high)
{
    if (*high > *low && *high - *low > 1e-12 * fmax(fabs(*low), fabs(*high))) return;
    const double room = *high == 0 ? 1 : 0.1 * fabs(*high);
    *low -= room;
    *high += room;
}

static void linear_ticks(Axis *axis, double step)
{
    const double first = ceil(axis->low / step - 1e-9);
    for (int i = 0; i < AXIS_TICKS_MAX; i++) {
        const double tick = (first + i) * step;
        if (tick > axis->high + 1e-9 * step) break;
        add_tick(axis, fabs(tick) < 1e-9 * step ? 0 : tick);
    }
}

void axis_exact(Axis *axis, double low, double high)
{
    spread(&low, &high);
    *axis = (Axis){.low = low, .high = high};
    linear_ticks(axis, round_up((high - low) / 5));
}

/* Ticks at 1, 2, 5, or at powers of ten alone where there are many of these. */
static void log_axis(Axis *axis, double low, double high)
{
    static const double steps[] = {1, 2, 5};
    const double decades = log10(high / low);
    const int stride = decades > 2.5 ? 3 : 1;
    const int skip = (int)ceil(decades / AXIS_TICKS_MAX + 0.001);
    /* Down to the tick below, up to the one above. */
    int first = (int)floor(log10(low) + 1e-9) * 3, last = (int)ceil(log10(high) - 1e-9) * 3;
#define TICK(k) (pow(10, floor((double)(k) / 3)) * steps[(((k) % 3) + 3) % 3])
    while (stride == 1 && TICK(first + 1) <= low * 1.0000001) first++;
    while (stride == 1 && TICK(last - 1) >= high * 0.9999999) last--;
    axis->log = true;
    axis->low = TICK(first);
    axis->high = TICK(last);
    for (int k = first; k <= last; k += stride * (stride == 3 ? skip : 1)) add_tick(axis, TICK(k));
#undef TICK
}

void axis_around(Axis *axis, double low, double high, AxisKind kind)
{
    *axis = (Axis){0};
    if (kind == AXIS_AUTO && low > 1e-300 && high > 10 * low) {
        log_axis(axis, low, high);
        return;
    }
    if (kind == AXIS_FROM_ZERO && low >= 0) low = 0;
    if (low == 0 && high == 0) high = 1;
    spread(&low, &high);
    const double step = round_up((high - low) / 5);
    axis->low = floor(low / step + 1e-9) * step;
    axis->high = ceil(high / step - 1e-9) * step;
    linear_ticks(axis, step);
}

double axis_place(const Axis *axis, double value)
{
    if (axis->log) return log(value / axis->low) / log(axis->high / axis->low);
    return (value - axis->low) / (axis->high - axis->low);
}
