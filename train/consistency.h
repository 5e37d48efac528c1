/* That the ranks hold the same weights, to the bit, while they train. Every rank applies the same sums to the same
 * weights, so nothing but a fault (memory, processor, network; a bug) makes them differ, and nothing else would notice:
 * losses stay plausible.
 *
 * What is compared: the weights; and moments and moving average between ranks that hold the same of them, which are all
 * ranks with a replicated optimizer, the owners of the same share with one divided inside each machine, and none with
 * one divided among all. There a fault in a share's owner reaches every rank alike, and is not seen. */
#ifndef TRAIN_CONSISTENCY_H
#define TRAIN_CONSISTENCY_H

#include "engine/exchange.h"
#include "optim/optimizer.h"

typedef struct Consistency Consistency;

/* All of them are borrowed and must outlive it. */
typedef struct ConsistencyOptions {
    Comm *comm; /* comm_set_group has been called */
    Exchange *exchange;
    Backend *backend;
    const ParamStore *store;
    Optimizer *optimizer;
} ConsistencyOptions;

/* Allocates everything that comparing takes. */
Status consistency_create(const ConsistencyOptions *options, Consistency **out);
void consistency_free(Consistency *consistency); /* NULL is fine */

/* Compares what `step` steps have made, once: nothing is done where that step was compared already, or with a world of
 * one. Reads all that it compares once, and sends 32 bytes a rank. Between steps; collective. A difference is
 * ERR_MISMATCH on every rank, which names the ranks that differ from most of the others, their hosts, the step and the
 * first parameter that differs. `saved_step`: of the newest checkpoint, -1: none, for the remedy. The first comparison,
 * before a step is made, can find nothing but unlike files. */
Status consistency_check(Consistency *consistency, int64_t step, int64_t saved_step);
int64_t consistency_checks(const Consistency *consistency); /* so many ended well */

#endif
