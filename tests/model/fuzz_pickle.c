/* Any bytes as a pickle: refused, or every value can be looked at. */
#include <stdlib.h>

#include "model/pickle.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    Pickle *pickle = NULL;
    size_t used = 0;
    if (pickle_read("fuzz", data, size, &used, &pickle) != STATUS_OK) return 0;
    if (used > size || pickle_root(pickle) >= pickle_count(pickle)) abort();
    for (uint32_t v = 0; v < pickle_count(pickle); v++) {
        const PickleValue *value = pickle_get(pickle, v);
        if (value->type == PICKLE_LIST || value->type == PICKLE_TUPLE || value->type == PICKLE_DICT)
            for (uint32_t i = 0; i < value->count; i++)
                if (value->as.items[i] >= pickle_count(pickle)) abort();
        if (value->type == PICKLE_DICT && value->count % 2) abort();
        if (value->type == PICKLE_TEXT && value->count > 0 &&
            ((const uint8_t *)value->as.text < data || (const uint8_t *)value->as.text + value->count > data + size))
            abort();
        (void)pickle_lookup(pickle, value, "state_dict");
    }
    for (size_t i = 0; pickle_foreign(pickle, i); i++)
        if (pickle_foreign(pickle, i)[0] == '\0') abort();
    pickle_free(pickle);
    return 0;
}
