/* The thread that makes every MPI call, and the launcher's world. */
#include <errno.h>
#include <mpi.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/log.h"
#include "engine/comm_internal.h"
#include "engine/flight_record.h"

/* With nobody waiting the thread looks this often, and leaves the cores to whoever computes. */
#define REST_NANOSECONDS 50000
/* A look that took longer than this has moved data: look again at once. */
#define BUSY_NANOSECONDS 8000
/* With a caller waiting, its core is idle: yield this often before resting at all. */
#define YIELDS 400

struct CommMpi {
    pthread_t thread;
    bool started;
    pthread_mutex_t lock;
    pthread_cond_t work; /* to the thread: a request, a waiter, an abort */
    pthread_cond_t done; /* to the callers */
    /* Guarded by the lock: */
    CommRequest *inbox, **inbox_end;
    int waiting; /* callers inside comm_mpi_wait */
    bool ready;  /* the world is known, or opening failed */
    bool stopping, stopped;
    bool aborting;
    int abort_code;
    StatusRecord failure; /* the first failure; what opening or any request returns from then on */
    CommWorld at;
};

/* The size of the world that the launcher names, 0 when it names none. */
static long launched_world(void)
{
    const char *size = getenv("OMPI_COMM_WORLD_SIZE");
    if (!size) size = getenv("SLURM_STEP_NUM_TASKS"); /* a step's tasks; a batch script outside srun has none */
    if (!size && getenv("PMI_RANK")) size = getenv("PMI_SIZE");
    return size ? strtol(size, NULL, 10) : 0;
}

bool comm_mpi_is_launched(void)
{
    long world = launched_world();
    if (world > 0) return world > 1;
    return getenv("PMIX_RANK") || getenv("PMI_RANK");
}

/* Whether one process may read another's memory here: sandboxes and strict containers forbid the call altogether, and
 * Open MPI's shared-memory transport then fails in the middle of a message instead of choosing another way. */
static bool may_copy_across_processes(void)
{
    int from = 1, to = 0;
    struct iovec local = {&to, sizeof(to)}, remote = {&from, sizeof(from)};
    return process_vm_readv(getpid(), &local, 1, &remote, 1, 0) == (ssize_t)sizeof(to) && to == 1;
}

/* Settings that Open MPI reads at its start; what the user has set stays, but for the first. */
static void set_defaults(void)
{
    /* Our thread rests by itself. A yield inside MPI_Test would give its core to the computing threads for a whole time
     * slice of milliseconds, in which nothing moves: measured on 2 ranks with 2 busy cores, it left 10 of 15 ms of an
     * all-reduce unhidden, and none without. */
    setenv("OMPI_MCA_mpi_yield_when_idle", "0", 1);
    setenv("OMPI_MCA_ess_singleton_isolated", "1", 0); /* a lone process forks no daemon */
    setenv("OMPI_MCA_btl_base_warn_component_unused", "0", 0);
    if (!may_copy_across_processes()) {
        setenv("OMPI_MCA_btl_vader_single_copy_mechanism", "none", 0); /* Open MPI 4 */
        setenv("OMPI_MCA_smsc", "^cma", 0);                            /* Open MPI 5 */
    }
}

static int64_t nanoseconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static void rest(CommMpi *mpi)
{
    int64_t until = nanoseconds() + REST_NANOSECONDS;
    struct timespec deadline = {until / 1000000000, until % 1000000000};
    pthread_mutex_lock(&mpi->lock);
    if (!mpi->inbox && !mpi->aborting) pthread_cond_timedwait(&mpi->work, &mpi->lock, &deadline);
    pthread_mutex_unlock(&mpi->lock);
}

/* Hands finished requests back; true when the last one of all, the closing one, is among them. */
static bool hand_back(CommMpi *mpi, CommPipeline *pipeline)
{
    bool closed = false, failed = false, any = false;
    CommRequest *request;
    pthread_mutex_lock(&mpi->lock);
    while ((request = comm_pipeline_pop(pipeline, &failed)) != NULL) {
        if (failed && mpi->failure.status == STATUS_OK) mpi->failure = *comm_pipeline_failure(pipeline);
        closed = closed || request->kind == COMM_KIND_CLOSE;
        flight_record_end(request->flight, request->number, failed);
        request->failed = failed;
        request->done = true;
        any = true;
    }
    if (any) pthread_cond_broadcast(&mpi->done);
    pthread_mutex_unlock(&mpi->lock);
    return closed;
}

static void serve(CommMpi *mpi, CommPipeline *pipeline)
{
    int yields = 0;
    for (bool closed = false; !closed;) {
        pthread_mutex_lock(&mpi->lock);
        while (!mpi->inbox && !mpi->aborting && mpi->stopping == mpi->stopped && comm_pipeline_is_idle(pipeline)) {
            pthread_cond_wait(&mpi->work, &mpi->lock);
        }
        if (mpi->stopping && !mpi->stopped) {
            comm_pipeline_stop(pipeline);
            mpi->stopped = true;
            pthread_cond_broadcast(&mpi->done);
        }
        CommRequest *fresh = mpi->inbox;
        mpi->inbox = NULL;
        mpi->inbox_end = &mpi->inbox;
        bool waiting = mpi->waiting > 0, aborting = mpi->aborting;
        int code = mpi->abort_code;
        pthread_mutex_unlock(&mpi->lock);

        if (aborting) MPI_Abort(MPI_COMM_WORLD, code);
        while (fresh) {
            CommRequest *request = fresh;
            fresh = request->next;
            comm_pipeline_push(pipeline, request);
        }
        bool moved = false;
        int64_t start = nanoseconds();
        comm_pipeline_step(pipeline, &moved);
        closed = hand_back(mpi, pipeline);
        if (moved || nanoseconds() - start > BUSY_NANOSECONDS) {
            yields = 0;
        } else if (waiting && yields < YIELDS) {
            yields++;
            sched_yield();
        } else if (!closed && !comm_pipeline_is_idle(pipeline)) {
            rest(mpi);
        }
    }
}

/* mpirun binds every rank of a small job to one core of its own unless told otherwise; the ranks then compute with one
 * thread while other cores idle. */
static void warn_of_binding(const CommWorld *world)
{
    cpu_set_t cpus;
    long online = sysconf(_SC_NPROCESSORS_ONLN);
    if (world->local_rank != 0 || !getenv("OMPI_COMM_WORLD_SIZE")) return;
    if (sched_getaffinity(0, sizeof(cpus), &cpus) != 0 || CPU_COUNT(&cpus) != 1) return;
    if (online / world->local_world < 2) return;
    log_warn("each of %d ranks may use one core of the %ld here; start them with `mpirun --bind-to none`",
             world->local_world, online);
}

static Status start_mpi(CommPipeline **pipeline, CommWorld *world)
{
    Status status = STATUS_OK;
    int before = 0, provided = 0;
    MPI_Initialized(&before);
    if (before) FAIL(ERR_COMM, "MPI was started before in this process; it starts only once");
    if (MPI_Init_thread(NULL, NULL, MPI_THREAD_FUNNELED, &provided) != MPI_SUCCESS) {
        FAIL(ERR_COMM, "MPI does not start; try the same launcher with a program as simple as `hostname`");
    }
    if (provided < MPI_THREAD_FUNNELED) {
        FAIL(ERR_COMM, "this MPI library (%s) was built without threads; MPI_THREAD_FUNNELED is needed",
             comm_library_version());
    }
    MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
    TRY(comm_pipeline_create(world, pipeline));
    warn_of_binding(world);
    long expected = launched_world();
    if (expected > 1 && world->world == 1) {
        /* Nobody else is in this world, so it can be left in order. */
        comm_pipeline_free(*pipeline);
        *pipeline = NULL;
        MPI_Finalize();
        FAIL(ERR_COMM,
             "the launcher started %ld tasks, but MPI sees only this one; with srun use --mpi=pmix, "
             "with mpirun use the one of %s",
             expected, comm_library_version());
    }
    return STATUS_OK;
fail:
    return status;
}

static void *thread_main(void *argument)
{
    CommMpi *mpi = argument;
    CommPipeline *pipeline = NULL;
    CommWorld world = {0, 1, 0, 1};
    Status status = start_mpi(&pipeline, &world);

    pthread_mutex_lock(&mpi->lock);
    if (status != STATUS_OK) status_save(status, &mpi->failure);
    mpi->at = world;
    mpi->ready = true;
    pthread_cond_broadcast(&mpi->done);
    pthread_mutex_unlock(&mpi->lock);

    if (status == STATUS_OK) serve(mpi, pipeline);
    /* After a failed MPI call the others may never reach MPI_Finalize; leaving without it makes the launcher end the
     * job. A mismatch is not such a failure: every rank learns of it and closes. */
    pthread_mutex_lock(&mpi->lock);
    bool broken = mpi->failure.status != STATUS_OK && mpi->failure.status != ERR_MISMATCH;
    pthread_mutex_unlock(&mpi->lock);
    if (!broken) {
        comm_pipeline_free(pipeline);
        MPI_Finalize();
    }
    return NULL;
}

Status comm_mpi_open(CommMpi **out, CommWorld *world)
{
    Status status = STATUS_OK;
    *out = NULL;
    CommMpi *mpi = mem_alloc_array(1, sizeof(*mpi));
    if (!mpi) return status_fail(ERR_MEMORY, __FILE__, __LINE__, "no memory for the MPI thread");
    mpi->inbox_end = &mpi->inbox;
    pthread_condattr_t clock;
    pthread_condattr_init(&clock);
    pthread_condattr_setclock(&clock, CLOCK_MONOTONIC);
    pthread_mutex_init(&mpi->lock, NULL);
    pthread_cond_init(&mpi->work, &clock);
    pthread_cond_init(&mpi->done, &clock);
    pthread_condattr_destroy(&clock);
    set_defaults();

    /* Signals are the main thread's. */
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int failed = pthread_create(&mpi->thread, NULL, thread_main, mpi);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (failed) FAIL(ERR_COMM, "the MPI thread does not start: %s", strerror(failed));
    mpi->started = true;

    pthread_mutex_lock(&mpi->lock);
    while (!mpi->ready) pthread_cond_wait(&mpi->done, &mpi->lock);
    *world = mpi->at;
    status = mpi->failure.status;
    pthread_mutex_unlock(&mpi->lock);
    if (status != STATUS_OK) {
        status_restore(&mpi->failure);
        goto fail;
    }
    *out = mpi;
    return STATUS_OK;
fail:
    if (mpi->started) pthread_join(mpi->thread, NULL);
    mpi->started = false;
    comm_mpi_close(mpi, 0);
    return status;
}

void comm_mpi_close(CommMpi *mpi, int64_t number)
{
    if (!mpi) return;
    if (mpi->started) {
        CommRequest last = {.kind = COMM_KIND_CLOSE, .number = number};
        pthread_mutex_lock(&mpi->lock);
        bool known = mpi->failure.status != STATUS_OK;
        pthread_mutex_unlock(&mpi->lock);
        comm_mpi_submit(mpi, &last);
        pthread_join(mpi->thread, NULL);
        if (last.failed && !known) log_error("%s", mpi->failure.message);
    }
    pthread_cond_destroy(&mpi->work);
    pthread_cond_destroy(&mpi->done);
    pthread_mutex_destroy(&mpi->lock);
    free(mpi);
}

void comm_mpi_submit(CommMpi *mpi, CommRequest *request)
{
    pthread_mutex_lock(&mpi->lock);
    request->next = NULL;
    *mpi->inbox_end = request;
    mpi->inbox_end = &request->next;
    pthread_cond_signal(&mpi->work);
    pthread_mutex_unlock(&mpi->lock);
}

Status comm_mpi_wait(CommMpi *mpi, CommRequest *request)
{
    pthread_mutex_lock(&mpi->lock);
    mpi->waiting++;
    if (!request->done) pthread_cond_signal(&mpi->work);
    while (!request->done) pthread_cond_wait(&mpi->done, &mpi->lock);
    mpi->waiting--;
    bool failed = request->failed;
    pthread_mutex_unlock(&mpi->lock);
    /* The first failure stays what it is, so it may be read without the lock. */
    return failed ? status_restore(&mpi->failure) : STATUS_OK;
}

void comm_mpi_stop(CommMpi *mpi)
{
    pthread_mutex_lock(&mpi->lock);
    mpi->stopping = true;
    pthread_cond_signal(&mpi->work);
    while (!mpi->stopped) pthread_cond_wait(&mpi->done, &mpi->lock);
    pthread_mutex_unlock(&mpi->lock);
}

void comm_mpi_abort(CommMpi *mpi, int code)
{
    pthread_mutex_lock(&mpi->lock);
    mpi->aborting = true;
    mpi->abort_code = code;
    pthread_cond_signal(&mpi->work);
    pthread_mutex_unlock(&mpi->lock);
    /* MPI_Abort ends this process from the other thread; should that thread be stuck, the launcher sees an exit. */
    sleep(5);
    _exit(code);
}

static char version_text[MPI_MAX_LIBRARY_VERSION_STRING];

static void version_read(void)
{
    int length = 0;
    MPI_Get_library_version(version_text, &length); /* allowed before MPI_Init */
    char *end = strpbrk(version_text, ",\n");
    if (end) *end = '\0';
}

const char *comm_library_version(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, version_read);
    return version_text;
}
