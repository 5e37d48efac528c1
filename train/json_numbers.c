#include "train/json_numbers.h"

#include <math.h>
#include <string.h>

enum { DEPTH_MAX = 5 };

typedef struct Walk {
    JsonNumberVisit *visit;
    void *context;
    char name[JSON_NUMBER_NAME_MAX];
} Walk;

static bool value_of(const JsonValue *value, double *out)
{
    bool truth;
    *out = NAN;
    if (json_is_null(value)) return true;
    if (json_boolean(value, &truth)) {
        *out = truth;
        return true;
    }
    return json_is_number(value) && json_number(value, out);
}

static void walk_object(Walk *walk, const JsonValue *object, size_t used, int depth)
{
    const size_t count = json_count(object);
    for (size_t i = 0; i < count; i++) {
        const char *key;
        double number;
        const JsonValue *value = json_member(object, i, &key);
        if (!key) continue;
        const size_t start = used > 0 ? used + 1 : 0, length = strlen(key);
        if (length >= sizeof walk->name || start + length >= sizeof walk->name) continue;
        if (start > 0) walk->name[start - 1] = '.';
        memcpy(walk->name + start, key, length + 1);
        if (json_is_object(value) && depth < DEPTH_MAX)
            walk_object(walk, value, start + length, depth + 1);
        else if (value_of(value, &number))
            walk->visit(walk->context, walk->name, number);
    }
}

void json_numbers_visit(const JsonValue *object, JsonNumberVisit *visit, void *context)
{
    Walk walk = {.visit = visit, .context = context};
    if (json_is_object(object)) walk_object(&walk, object, 0, 1);
}
