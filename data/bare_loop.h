/* What the loader is held against: pictures that are in memory already through the libraries that decode them and the
 * resizer, and nothing else: no reading, no captions, no order, no checks. Of the shards of a config, so that both do
 * the same pictures. */
#ifndef DATA_BARE_LOOP_H
#define DATA_BARE_LOOP_H

#include <stdint.h>

#include "base/status.h"
#include "data/data_config.h"

typedef struct BareLoop BareLoop;

#define BARE_LOOP_MAX_PICTURES 1024
#define BARE_LOOP_MAX_BYTES ((int64_t)256 << 20)

typedef struct BareLoopResult {
    int64_t pictures;
    double seconds;     /* times threads, of the clock */
    double cpu_seconds; /* of the processor */
    double bytes;       /* of the files */
    double rate;        /* pictures a second, all threads together */
} BareLoopResult;

/* Reads pictures of every source, in proportion to `shares` (one each, any sum), from all over its shards: at most as
 * many, and as many bytes, as above. Those that cannot be decoded are left out; ERR_FORMAT when none is left.
 */
Status bare_loop_create(const DataConfig *config, int resolution, const double *shares, BareLoop **out);
void bare_loop_free(BareLoop *loop); /* NULL is fine */
int bare_loop_pictures(const BareLoop *loop);
/* Goes round the pictures for so many seconds with so many threads, from where the last run stopped; the result is
 * added to *out. */
Status bare_loop_run(BareLoop *loop, int threads, double seconds, BareLoopResult *out);

#endif
