/* How many threads a process should use by itself. */
#include "engine/cpu/threads.h"

#include <sched.h>
#include <stdlib.h>
#include <unistd.h>

#define MOST_THREADS 1024

/* A positive number from the environment, or 0. */
static int32_t number_from(const char *name)
{
    const char *text = getenv(name);
    if (!text) return 0;
    char *end = NULL;
    const long value = strtol(text, &end, 10);
    return end == text || value < 1 || value > MOST_THREADS ? 0 : (int32_t)value;
}

static int32_t processors_of(pid_t pid)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    return sched_getaffinity(pid, sizeof set, &set) == 0 ? (int32_t)CPU_COUNT(&set) : 0;
}

int32_t threads_default(void)
{
    /* What the user or the scheduler says of one process goes first. */
    const int32_t told = number_from("OMP_NUM_THREADS");
    if (told > 0) return told;
    int32_t mine = processors_of(0);
    if (mine < 1) mine = (int32_t)sysconf(_SC_NPROCESSORS_ONLN);
    if (mine < 1) mine = 1;
    if (mine > MOST_THREADS) mine = MOST_THREADS;
    const int32_t task = number_from("SLURM_CPUS_PER_TASK");
    if (task > 0) return task < mine ? task : mine;

    static const char *const LOCAL_RANKS[] = {"OMPI_COMM_WORLD_LOCAL_SIZE", "MPI_LOCALNRANKS", "PMIX_LOCAL_SIZE",
                                              "SLURM_NTASKS_PER_NODE"};
    int32_t ranks = 0;
    for (size_t i = 0; i < sizeof LOCAL_RANKS / sizeof *LOCAL_RANKS && ranks == 0; i++)
        ranks = number_from(LOCAL_RANKS[i]);
    if (ranks < 2) return mine;
    /* A launcher may have bound each rank to its own processors, or left all of them to all ranks: the machine's (or
     * container's) processors, which the first process has, tell which. */
    int32_t all = processors_of(1);
    if (all < mine) all = mine;
    const int32_t fair = all / ranks > 1 ? all / ranks : 1;
    return fair < mine ? fair : mine;
}
