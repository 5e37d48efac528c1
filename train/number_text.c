#include "train/number_text.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

/* "1e-05" becomes "1e-5". */
static void shorten_exponent(char *text)
{
    char *e = strchr(text, 'e');
    if (!e) return;
    char *digits = e[1] == '-' ? e + 2 : e + 1;
    const size_t skip = strspn(digits, "+0");
    memmove(digits, digits + skip, strlen(digits + skip) + 1);
}

const char *number_text(double value, int digits, NumberText out)
{
    static const char *const units[] = {"", "k", "M", "G", "T"};
    int unit = 0;
    if (isnan(value)) return strcpy(out, "-");
    double rest = value;
    /* Against what rounding makes of it: 999,999 is "1M". */
    while (unit < 4 && fabs(rest) >= 1000 * (1 - 0.5 * pow(10, -digits))) {
        rest /= 1000;
        unit++;
    }
    snprintf(out, sizeof(NumberText), "%.*g%s", digits > 3 || unit > 0 || fabs(rest) < 100 ? digits : 3, rest,
             units[unit]);
    shorten_exponent(out);
    return out;
}

const char *number_text_count(int64_t value, NumberText out)
{
    char digits[24];
    const int length = snprintf(digits, sizeof digits, "%lld", (long long)value);
    int used = 0;
    for (int i = 0; i < length; i++) {
        out[used++] = digits[i];
        const int left = length - 1 - i;
        if (left > 0 && left % 3 == 0 && digits[i] != '-') out[used++] = ',';
    }
    out[used] = '\0';
    return out;
}

const char *number_text_bytes(double bytes, NumberText out)
{
    static const char *const units[] = {"B", "kB", "MB", "GB", "TB", "PB"};
    int unit = 0;
    if (isnan(bytes)) return strcpy(out, "-");
    while (unit < 5 && fabs(bytes) >= 999.5) {
        bytes /= 1000;
        unit++;
    }
    snprintf(out, sizeof(NumberText), "%.3g %s", bytes, units[unit]);
    return out;
}

const char *number_text_time(double seconds, NumberText out)
{
    struct tm parts;
    /* Years of four digits; other numbers are no times of ours. */
    const time_t whole = seconds >= 0 && seconds < 253402300800.0 ? (time_t)seconds : -1;
    if (whole < 0 || !gmtime_r(&whole, &parts) || !strftime(out, sizeof(NumberText), "%Y-%m-%d %H:%M UTC", &parts))
        return strcpy(out, "-");
    return out;
}

const char *number_text_lasted(double seconds, NumberText out)
{
    if (!(seconds >= 0 && seconds < 1e12)) return strcpy(out, "-");
    const long long s = llround(seconds), minutes = s / 60, hours = minutes / 60, days = hours / 24;
    if (days > 0)
        snprintf(out, sizeof(NumberText), "%lld d %lld h", days, hours % 24);
    else if (hours > 0)
        snprintf(out, sizeof(NumberText), "%lld h %lld min", hours, minutes % 60);
    else if (minutes > 0)
        snprintf(out, sizeof(NumberText), "%lld min %lld s", minutes, s % 60);
    else
        snprintf(out, sizeof(NumberText), "%lld s", s);
    return out;
}

const char *number_text_percent(double share, NumberText out)
{
    if (isnan(share)) return strcpy(out, "-");
    snprintf(out, sizeof(NumberText), "%.*f %%", fabs(share) < 0.0995 ? 1 : 0, 100 * share);
    return out;
}
