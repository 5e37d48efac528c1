/* JSON from hostile text, and every function on every node. */
#include <stdlib.h>
#include <string.h>

#include "base/json.h"

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size);

static void visit(const JsonValue *value)
{
    size_t length;
    double number;
    int64_t whole;
    const char *text = json_text(value, &length), *key;
    if (text && (text[length] != '\0' || length > 1 << 20)) abort();
    (void)json_number(value, &number);
    (void)json_integer(value, &whole);
    size_t count = json_count(value);
    for (size_t i = 0; i < count; i++) {
        if (json_is_object(value)) {
            const JsonValue *member = json_member(value, i, &key);
            if (!key || json_get(value, key) != member) abort();
            visit(member);
        } else
            visit(json_item(value, i));
    }
    if (json_member(value, count, &key) || json_item(value, count)) abort();
}

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size)
{
    JsonDoc *doc;
    /* A copy of exactly the size, so that reading past it is seen. */
    char *text = malloc(size ? size : 1);
    memcpy(text, data, size);
    if (json_parse(text, size, 1 << 20, &doc) == STATUS_OK) {
        visit(json_root(doc));
        (void)json_has_duplicate_keys(doc);
        json_free(doc);
    }
    free(text);
    return 0;
}
