/* What happens when ranks lose step, and how a job is ended: `mpirun -n N test_comm_failure CASE`. A process can join
 * a world only once, so each case is a run of its own; it exits 0 where every rank saw what it should. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine/comm.h"

static int failures;

static void expect(int holds, const char *what)
{
    if (holds) return;
    fprintf(stderr, "%s; last message: %s\n", what, status_message());
    failures++;
}

static void expect_mismatch(Status status, const char *text)
{
    expect(status == ERR_MISMATCH, "no ERR_MISMATCH");
    expect(strstr(status_message(), text) != NULL, text);
    expect(strstr(status_message(), "collective 2") != NULL, "the collective is not named");
}

int main(int argc, char **argv)
{
    const char *name = argc > 1 ? argv[1] : "";
    Comm *comm = NULL;
    if (!strcmp(name, "no-pmi")) {
        /* srun without a PMI that MPI understands starts tasks that know nothing of each other. */
        setenv("SLURM_STEP_NUM_TASKS", "2", 1);
        expect(comm_open(&comm) == ERR_COMM, "tasks without a common world");
        expect(!comm && strstr(status_message(), "--mpi=pmix") != NULL, "the remedy");
        return failures ? 1 : 0;
    }
    if (comm_open(&comm) != STATUS_OK) {
        fprintf(stderr, "%s\n", status_message());
        return 1;
    }
    int last = comm_world(comm) - 1;
    int odd_one = comm_rank(comm) == last;
    float data[1000] = {0};
    double number = 0;
    CommRequest *good = NULL, *bad = NULL;
    expect(comm_barrier(comm) == STATUS_OK, "barrier");
    /* Begun before the step is lost: it ends well. */
    data[0] = 1;
    expect(comm_all_reduce_begin(comm, data, 10, &good) == STATUS_OK, "begin");

    char text[128];
    if (!strcmp(name, "alone")) {
        /* Without a launcher, or as its only rank: a world of one, whose collectives end at once. */
        expect(comm_world(comm) == 1 && comm_rank(comm) == 0, "a world of one");
        expect(comm_wait(comm, good) == STATUS_OK && data[0] == 1, "its sum");
        comm_close(comm);
        return failures ? 1 : 0;
    }
    if (!strcmp(name, "count")) {
        expect(comm_all_reduce_begin(comm, data + 10, odd_one ? 501 : 500, &bad) == STATUS_OK, "begin");
        snprintf(text, sizeof(text), "rank %d sums 501 floats", last);
        expect_mismatch(comm_wait(comm, bad), text);
        expect(strstr(status_message(), "rank 0") && strstr(status_message(), "sums 500 floats"), "rank 0");
    } else if (!strcmp(name, "kind")) {
        Status status = odd_one ? comm_barrier(comm) : comm_all_reduce_f64(comm, &number, 1, COMM_MAX);
        snprintf(text, sizeof(text), "rank %d is at a barrier", last);
        expect_mismatch(status, text);
    } else if (!strcmp(name, "root")) {
        snprintf(text, sizeof(text), "rank %d broadcasts 4 bytes from rank 1", last);
        expect_mismatch(comm_broadcast(comm, data, 4, odd_one ? 1 : 0), text);
    } else if (!strcmp(name, "early")) {
        /* One rank closes while the others go on. */
        if (!odd_one) expect_mismatch(comm_barrier(comm), "has finished");
    } else if (!strcmp(name, "abort")) {
        if (odd_one) comm_abort(comm, 77);
        comm_barrier(comm); /* never comes back */
    } else {
        fprintf(stderr, "no case \"%s\"\n", name);
        return 1;
    }
    expect(comm_wait(comm, good) == STATUS_OK && data[0] == (float)comm_world(comm), "the collective before");
    /* From then on nothing else is tried. */
    if (strcmp(name, "early") != 0 || !odd_one) expect(comm_barrier(comm) == ERR_MISMATCH, "a barrier afterwards");
    comm_close(comm);
    return failures ? 1 : 0;
}
