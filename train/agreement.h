/* What all ranks must have alike, before they exchange anything that depends on it: program, libraries, config, files.
 *
 * Each rank notes facts, a key and a value each. Comparing them costs one reduction of 64 bytes while all agree,
 * whatever the number of ranks. Where they do not, every rank learns who differs in what and composes the same message:
 * the majority's value is what the others should have had; without a majority all values are listed. */
#ifndef TRAIN_AGREEMENT_H
#define TRAIN_AGREEMENT_H

#include "base/arena.h"
#include "engine/comm.h"

typedef struct Agreement {
    StrBuf text; /* "key\0value\0" of each fact */
} Agreement;

/* Facts come in the same order on every rank. A value of more than 1000 bytes is kept as its beginning, its size and a
 * hash. Keys have no blanks at their ends and are no longer than 255 bytes. */
Status agreement_add(Agreement *agreement, const char *key, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
void agreement_free(Agreement *agreement); /* leaves an empty one */

/* Collective. ERR_MISMATCH on every rank where facts differ; the message begins with `what` ("the ranks do not train
 * the same"), has a line for each difference that names the ranks, their hosts, the key and both values, and ends with
 * `remedy`. With a world of one nothing can differ. */
Status agreement_compare(const Agreement *agreement, Comm *comm, const char *what, const char *remedy);

#endif
