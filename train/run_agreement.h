/* That all ranks of a job are of one run (train/agreement.h): what is compared, and when. */
#ifndef TRAIN_RUN_AGREEMENT_H
#define TRAIN_RUN_AGREEMENT_H

#include "engine/backend.h"
#include "train/agreement.h"
#include "train/run_config.h"

/* Before anything else is exchanged: program and libraries, command, environment, config (but for keys that only say
 * how a process uses its own machine). `run` as it was loaded, micro_batch unresolved; `command`: its name and options
 * that are not in the config. Reads no file but the program's. Collective; ERR_MISMATCH. */
Status run_agreement_check(const RunConfig *run, const char *command, Comm *comm);

/* Next, the shards and the frozen files. `precomputing`: the command makes the precomputed files, instead of reading
 * them. Looks at every shard's size, which a slow or absent file server makes long. Collective; ERR_MISMATCH. */
Status run_agreement_check_files(const RunConfig *run, bool precomputing, Comm *comm);

/* Once the device is open: its kind and arithmetic must be the same. Other processors or numbers of threads are a
 * warning, since they change no more than rounding. Collective; ERR_MISMATCH. */
Status run_agreement_check_device(const Backend *backend, Dtype compute, Comm *comm);

#endif
