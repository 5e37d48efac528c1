/* The grammar of JSON (RFC 8259), with NaN, Infinity and -Infinity as Python writes them. json-c's own strictness
 * differs between its versions: 0.18's refuses letters beyond ASCII, others let single quotes or comments pass. */
#ifndef BASE_JSON_GRAMMAR_H
#define BASE_JSON_GRAMMAR_H

#include <stddef.h>

#include "base/status.h"

/* Checks one document of valid UTF-8; *members: how many members its objects have, repeated keys counted each time.
 * ERR_FORMAT tells the byte; ERR_LIMIT when nested more than max_depth deep, at most 64. */
Status json_check_grammar(const char *text, size_t size, int max_depth, size_t *members);

#endif
