/* The numbers of a JSON object and of the objects in it, by name: {"data": {"threads": {"read": 0.5}}} has
 * data.threads.read. */
#ifndef TRAIN_JSON_NUMBERS_H
#define TRAIN_JSON_NUMBERS_H

#include "base/json.h"

enum { JSON_NUMBER_NAME_MAX = 96 }; /* bytes with the final 0; numbers under longer names are left out */

/* null, as our writer writes NaN and infinities, is NaN; false and true are 0 and 1. */
typedef void JsonNumberVisit(void *context, const char *name, double value);

/* In the file's order; what lies in arrays, or more than 5 objects deep, is left out. */
void json_numbers_visit(const JsonValue *object, JsonNumberVisit *visit, void *context);

#endif
