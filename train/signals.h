/* Signals set a flag; nothing else happens inside a handler. The trainer looks at step boundaries, where the ranks
 * agree on what was asked for by a sum over all of them.
 *
 *   INT         save, stop, exit 130; a second INT ends the process at once
 *   TERM, USR1  save, stop, exit 75: asks a scheduler to queue the job again
 *   USR2        save and go on */
#ifndef TRAIN_SIGNALS_H
#define TRAIN_SIGNALS_H

#include <stdbool.h>

#include "base/status.h"

typedef enum SignalWish { WISH_SAVE, WISH_STOP, WISH_REQUEUE, WISH_COUNT } SignalWish;

Status signals_install(void);
void signals_remove(void); /* the default actions again */
/* Whether one asks for the end, which signals_take still is to tell. */
bool signals_ask_for_end(void);
/* 1.0 or 0.0 for each wish since the last call, ready to be summed over ranks. */
void signals_take(double wishes[WISH_COUNT]);

#endif
