/* A job for test_watchdog.sh: `mpirun -n N watchdog_ranks CASE RANK MACHINES FOLDER`. Every step is a sum of 1000
 * floats; at step 10 something happens to one rank, or to all. The ranks are divided among so many machines. Exits 0
 * where 20 steps came to a good end. */
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/log.h"
#include "base/status.h"
#include "engine/watchdog.h"

enum { FLOATS = 1000, STEPS = 20, WHEN = 10 };

static void wait_seconds(double seconds)
{
    struct timespec rest = {(time_t)seconds, (long)((seconds - (double)(time_t)seconds) * 1e9)};
    while (nanosleep(&rest, &rest) != 0) {
    }
}

/* Stopped, as by a terminal or a suspended machine, and continued by a child. */
static void stop_for(unsigned seconds)
{
    const pid_t self = getpid();
    const pid_t child = fork();
    if (child == 0) {
        sleep(seconds);
        kill(self, SIGCONT);
        _exit(0);
    }
    raise(SIGSTOP);
}

static Status happen(const char *name, int rank, bool chosen, Comm *comm)
{
    Status status = STATUS_OK;
    if (!strcmp(name, "all-stop")) stop_for(4);
    if (!strcmp(name, "stuck")) wait_seconds(60);
    if (!strcmp(name, "hang")) {
        flight_record_begin(comm_flight_record(comm), &(FlightWhat){.kind = "sum", .unit = "floats", .count = 77});
        wait_seconds(60);
    }
    if (!chosen) return STATUS_OK;
    wait_seconds(1.5); /* the others hear that it is at this step, on a busy machine too */
    if (!strcmp(name, "die")) raise(SIGKILL);
    if (!strcmp(name, "stop")) raise(SIGSTOP);
    if (!strcmp(name, "pause")) stop_for(1);
    if (!strcmp(name, "delay")) wait_seconds(1);
    if (!strcmp(name, "late")) wait_seconds(60);
    if (!strcmp(name, "order")) TRY(comm_barrier(comm));
    if (!strcmp(name, "fail")) FAIL(ERR_NUMERIC, "the loss of rank %d is not finite", rank);
    if (!strcmp(name, "comm")) FAIL(ERR_COMM, "a broken pipe to rank 9");
fail:
    return status;
}

static Status train(const char *name, int chosen, Comm *comm)
{
    Status status = STATUS_OK;
    float data[FLOATS];
    const int rank = comm_rank(comm);
    for (int step = 1; step <= STEPS; step++) {
        CommRequest *request = NULL;
        comm_note_step(comm, step, "computing");
        for (int i = 0; i < FLOATS; i++) data[i] = 1;
        if (step == WHEN) TRY(happen(name, rank, rank == chosen, comm));
        TRY(comm_all_reduce_begin(comm, data, FLOATS, &request));
        TRY(comm_wait(comm, request));
        if (data[FLOATS - 1] != (float)comm_world(comm)) FAIL(ERR_INTERNAL, "a sum of %g", (double)data[FLOATS - 1]);
        wait_seconds(0.02);
    }
fail:
    return status;
}

int main(int argc, char **argv)
{
    Comm *comm = NULL;
    Watchdog *watchdog = NULL;
    char machine[32];
    if (argc != 5) return 2;
    Status status = comm_open(&comm);
    if (status) return status_exit_code(status);
    const int rank = comm_rank(comm), world = comm_world(comm), machines = atoi(argv[3]);
    log_configure(LOG_INFO, rank, world);
    snprintf(machine, sizeof machine, "machine %d", rank * machines / world);
    const char *bound = getenv("BOUND");
    const double seconds = bound ? atof(bound) : 3;
    status = watchdog_open(&(WatchdogOptions){.comm = comm,
                                              .heartbeat_seconds = 0.2,
                                              .silent_seconds = seconds,
                                              .stall_seconds = seconds,
                                              .folder = argv[4],
                                              .machine = machines > 0 ? machine : NULL},
                           &watchdog);
    if (!status) status = train(argv[1], atoi(argv[2]), comm);
    if (!status) {
        status = watchdog_close(watchdog);
        if (!status) watchdog = NULL;
    }
    if (status) {
        log_error("%s", status_message());
        watchdog_fail(watchdog, status);
        comm_abort(comm, status_exit_code(status));
    }
    comm_close(comm);
    return 0;
}
