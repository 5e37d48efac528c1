/* What a config says on which samples and captions are kept, compiled once: the expressions of data.filter.where and of
 * each source's own, and each source's choice among captions. Read by any number of threads. */
#ifndef DATA_FILTER_SET_H
#define DATA_FILTER_SET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/config.h"
#include "base/status.h"
#include "data/bad_samples.h"
#include "data/caption_choice.h"
#include "data/data_config.h"
#include "data/filter.h"
#include "data/metadata.h"

typedef struct FilterSet FilterSet;

/* One expression. */
typedef struct FilterItem {
    const char *text; /* as it was written: the config's */
    FilterExpression *expression;
} FilterItem;

/* `data` must outlive the set. ERR_CONFIG names the key, "data.filter.where[1]" (`section` stands for "data"), and the
 * place in the expression; `config` may be NULL: messages then lack file and line. */
Status filter_set_create(const Config *config, const char *section, const DataConfig *data, FilterSet **out);
void filter_set_free(FilterSet *set); /* NULL is fine */

/* The expressions that samples of a source are asked, in order: those of data.filter, then its own. */
size_t filter_set_count(const FilterSet *set, int32_t source);
const FilterItem *filter_set_item(const FilterSet *set, int32_t source, size_t i);
/* Some of them ask for caption_length. */
bool filter_set_asks_caption_length(const FilterSet *set, int32_t source);
const CaptionChoice *filter_set_captions(const FilterSet *set, int32_t source);

/* One expression: SAMPLE_ACCEPTED, SAMPLE_WHERE, or, unless `missing` is MISSING_PASS, SAMPLE_MISSING_FIELD; with a
 * word about it in `detail` (at least 128 bytes). */
SampleReason filter_item_check(const FilterItem *item, const Metadata *meta, MissingField missing, char *detail,
                               size_t detail_size);
/* The thresholds of data.filter, then the expressions: the first that leaves the sample out. */
SampleReason filter_set_check(const FilterSet *set, int32_t source, const Metadata *meta, int64_t min_side,
                              char *detail, size_t detail_size);

#endif
