/* Filter expressions over the logical fields of a sample (data/metadata.h), evaluated before its picture is decoded.
 *
 *     watermark < 0.5 and similarity >= 0.26 and (language in [ru, uk] or caption_length > 10)
 *
 *     expression  = term { "or" term }                    term  = factor { "and" factor }
 *     factor      = "not" factor | "(" expression ")" | "has" field | comparison
 *     comparison  = field ("<" | "<=" | ">" | ">=" | "==" | "!=") value | field ["not"] "in" "[" value {"," value} "]"
 *     field       = watermark | similarity | unsafe | aesthetic | language | width | height | side | aspect | pixels |
 *                   caption_length | status | json.NAME | json."NAME"
 *     value       = number | word | "quoted"
 *
 * Of a json.NAME, true and false are the texts "true" and "false". A field that a sample lacks makes a comparison
 * unknown (Kleene's third value); `has` asks for it. What becomes of a sample for which an expression is unknown is the
 * filter's missing-field policy. Numbers compare with numbers, texts with texts (byte by byte); another type counts as
 * missing, as do NaN and infinities. Which of the two a json.NAME is taken for is told by the value it is compared
 * with. docs/filters.md tells what the fields are. */
#ifndef DATA_FILTER_H
#define DATA_FILTER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"
#include "data/metadata.h"

typedef enum FilterVerdict { FILTER_FALSE, FILTER_TRUE, FILTER_UNKNOWN } FilterVerdict;

typedef struct FilterExpression FilterExpression;

/* ERR_CONFIG names the place in the text ("column 13", in characters from 1) and what was expected there (the nearest
 * known field for a misspelt one). At most 4096 bytes, 64 levels, 256 comparisons. */
Status filter_parse(const char *text, FilterExpression **out);
void filter_free(FilterExpression *expression); /* NULL is fine */
/* Safe from several threads. `missing` (may be NULL): the first field that made it unknown. */
FilterVerdict filter_evaluate(const FilterExpression *expression, const Metadata *meta, const char **missing);
/* The fields that it asks for, as often as it does: their names as they were written, below the count. */
size_t filter_field_count(const FilterExpression *expression);
const char *filter_field_name(const FilterExpression *expression, size_t field);
/* Adds 1 to the count of each field (filter_field_count of them) that the sample has, of the type that is asked for. */
void filter_count_fields(const FilterExpression *expression, const Metadata *meta, int64_t *counts);
/* Whether caption_length occurs: the one field for which a sample's .txt may have to be read. */
bool filter_asks_caption_length(const FilterExpression *expression);

#endif
