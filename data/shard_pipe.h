/* `pipe:COMMAND`: what a command of /bin/sh prints, in a file without a name. */
#ifndef DATA_SHARD_PIPE_H
#define DATA_SHARD_PIPE_H

#include "data/patience.h"

/* A command that prints nothing for PIPE_STALL x stall_seconds counts as stalled: tape and other slow stores take their
 * time before the first byte. */
#define PIPE_STALL 10

/* Runs the command once: an open file of its output (the caller closes it) and its size. It has no input, its errors go
 * where ours go, and it is a process group of its own that is ended when it stalls, when we are stopped, and above
 * SPOOL_MAX_BYTES. ERR_IO when it ends with anything but 0. `shown`:
 * what messages call it. */
Status shard_pipe_spool(Patience *patience, const char *command, const char *shown, int *fd, int64_t *bytes);

#endif
