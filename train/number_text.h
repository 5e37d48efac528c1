/* Numbers as people read them, in pages and tables. */
#ifndef TRAIN_NUMBER_TEXT_H
#define TRAIN_NUMBER_TEXT_H

#include <stdint.h>

typedef char NumberText[32];

/* At most `digits` significant digits, with k, M, G, T for thousands: "0.0079", "1.2k", "5e-6"; "-" of NaN. The result
 * is `out`. */
const char *number_text(double value, int digits, NumberText out);
const char *number_text_count(int64_t value, NumberText out);   /* "1,223,352,584" */
const char *number_text_bytes(double bytes, NumberText out);    /* "1.5 GB" */
const char *number_text_time(double seconds, NumberText out);   /* "2026-11-28 18:04 UTC", of seconds since 1970 */
const char *number_text_lasted(double seconds, NumberText out); /* "3 d 4 h", "12 min", "8 s" */
const char *number_text_percent(double share, NumberText out);  /* "1.3 %" of 0.013 */

#endif
