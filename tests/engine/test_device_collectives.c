/* DeviceCollectives between processes, each with a device of its own: the emulated one, which VASILY_CUDA_LIBRARY
 * names. Sums and shares, recordings, order between the two queues (each test also leaves a wait out and must see it),
 * and what happens when ranks do different things, or one ends. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>

#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/bf16.h"
#include "engine/backend.h"

enum { RANKS_MOST = 4, LARGE = 70000, SMALL = 1000 };

/* What the processes of a test share. */
typedef struct Meeting {
    atomic_int id_is_there;
    uint8_t id[DEVICE_COMM_ID_BYTES];
    char identity[RANKS_MOST][DEVICE_IDENTITY_BYTES];
} Meeting;

/* One of the processes. */
typedef struct Rank {
    Meeting *meeting;
    int rank, ranks;
    Backend *backend;
    const DeviceOps *device;
    const DeviceCollectives *collectives;
    DeviceComm *comm;
} Rank;

#define MUST(condition)                                                                       \
    do {                                                                                      \
        if (!(condition)) {                                                                   \
            fprintf(stderr, "rank %d: %s:%d: %s\n", r->rank, __FILE__, __LINE__, #condition); \
            _exit(1);                                                                         \
        }                                                                                     \
    } while (0)
#define OK(call)                                                                                    \
    do {                                                                                            \
        if ((call) != STATUS_OK) {                                                                  \
            fprintf(stderr, "rank %d: %s:%d: %s\n", r->rank, __FILE__, __LINE__, status_message()); \
            _exit(1);                                                                               \
        }                                                                                           \
    } while (0)

static void rest(double seconds)
{
    nanosleep(
        &(struct timespec){.tv_sec = (time_t)seconds, .tv_nsec = (long)(1e9 * (seconds - (double)(time_t)seconds))},
        NULL);
}

static void open_rank(Rank *r)
{
    OK(backend_open_cuda(&(BackendOptions){.threads = 1}, &r->backend));
    r->device = r->backend->device;
    r->collectives = r->device->collectives;
    MUST(r->collectives != NULL);
    if (r->rank == 0) {
        OK(r->collectives->make_id(r->backend, r->meeting->id));
        atomic_store(&r->meeting->id_is_there, 1);
    }
    while (!atomic_load(&r->meeting->id_is_there)) rest(1e-3);
    OK(r->collectives->open(r->backend, r->meeting->id, r->rank, r->ranks, &r->comm));
    OK(r->collectives->marks_reserve(r->backend, 3));
}

/* Starts `ranks` processes; how many of them ended well. */
static int run(int ranks, int lazy, void (*scenario)(Rank *rank))
{
    char late[8];
    int well = 0;
    Meeting *meeting = mmap(NULL, sizeof *meeting, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_true(meeting != MAP_FAILED);
    snprintf(late, sizeof late, "%d", lazy);
    fflush(NULL);
    for (int k = 0; k < ranks; k++) {
        const pid_t child = fork();
        assert_true(child >= 0);
        if (child > 0) continue;
        Rank rank = {.meeting = meeting, .rank = k, .ranks = ranks};
        setenv("VASILY_EMU_LAZY", late, 1);
        open_rank(&rank);
        scenario(&rank);
        rank.collectives->close(rank.backend, rank.comm);
        backend_close(rank.backend);
        _exit(0);
    }
    for (int k = 0; k < ranks; k++) {
        int status = 0;
        assert_true(waitpid(-1, &status, 0) > 0); /* as they end, so that none that has ended seems to be there */
        well += WIFEXITED(status) && WEXITSTATUS(status) == 0;
    }
    munmap(meeting, sizeof *meeting);
    return well;
}

static float value_of(int rank, int64_t i)
{
    return (float)(rank + 1) * (float)((i * 37) % 1009 - 500) * 0.01f;
}

/* `count` elements of this rank on the device. */
static float *filled(const Rank *r, int64_t count)
{
    float *host = malloc((size_t)count * sizeof *host);
    float *memory = r->backend->alloc(r->backend, (size_t)count * sizeof *memory);
    MUST(host && memory);
    for (int64_t i = 0; i < count; i++) host[i] = value_of(r->rank, i);
    OK(r->backend->upload(r->backend, memory, host, (size_t)count * sizeof *host));
    free(host);
    return memory;
}

static float summed(const Rank *r, int64_t i)
{
    float sum = value_of(0, i);
    for (int k = 1; k < r->ranks; k++) sum += value_of(k, i);
    return sum;
}

static float *fetched(const Rank *r, const float *memory, int64_t count)
{
    float *host = malloc((size_t)count * sizeof *host);
    MUST(host);
    OK(r->backend->download(r->backend, host, memory, (size_t)count * sizeof *host));
    return host;
}

/* ---- what they compute ---- */

/* Larger than a piece of the stand-in. */
static void sums_in_fp32(Rank *r)
{
    const int64_t count = (int64_t)LARGE * r->ranks, share = LARGE;
    float *data = filled(r, count);
    OK(r->collectives->fork(r->backend));
    OK(r->collectives->reduce_scatter(r->backend, r->comm, data, count, DEVICE_F32));
    OK(r->collectives->mark(r->backend, 0));
    OK(r->collectives->join(r->backend, 0));
    float *host = fetched(r, data, count);
    for (int64_t i = r->rank * share; i < (r->rank + 1) * share; i++) MUST(host[i] == summed(r, i));
    free(host);
    OK(r->collectives->fork(r->backend));
    OK(r->collectives->all_gather(r->backend, r->comm, data, count, DEVICE_F32));
    OK(r->collectives->mark(r->backend, 0));
    OK(r->collectives->join(r->backend, 0));
    host = fetched(r, data, count);
    for (int64_t i = 0; i < count; i++) MUST(host[i] == summed(r, i));
    free(host);
    r->backend->free(r->backend, data);
}

static void sums_of_everything(Rank *r)
{
    float *data = filled(r, LARGE);
    OK(r->collectives->fork(r->backend));
    OK(r->collectives->all_reduce(r->backend, r->comm, data, LARGE, DEVICE_F32));
    OK(r->collectives->mark(r->backend, 0));
    OK(r->collectives->join(r->backend, 0));
    float *host = fetched(r, data, LARGE);
    for (int64_t i = 0; i < LARGE; i++) MUST(host[i] == summed(r, i));
    free(host);
    r->backend->free(r->backend, data);
}

/* fp32 to bf16, over the wire, and back. */
static void sums_in_bf16(Rank *r)
{
    const int64_t count = (int64_t)SMALL * r->ranks;
    float *data = filled(r, count);
    uint16_t *wire = r->backend->alloc(r->backend, (size_t)count * sizeof *wire);
    MUST(wire);
    OK(r->collectives->fork(r->backend));
    OK(r->collectives->narrow(r->backend, wire, data, count));
    OK(r->collectives->reduce_scatter(r->backend, r->comm, wire, count, DEVICE_BF16));
    OK(r->collectives->all_gather(r->backend, r->comm, wire, count, DEVICE_BF16));
    OK(r->collectives->widen(r->backend, data, wire, count));
    OK(r->collectives->mark(r->backend, 0));
    OK(r->collectives->join(r->backend, 0));
    float *host = fetched(r, data, count);
    for (int64_t i = 0; i < count; i++) {
        float sum = bf16_to_f32(bf16_from_f32(value_of(0, i)));
        for (int k = 1; k < r->ranks; k++) sum += bf16_to_f32(bf16_from_f32(value_of(k, i)));
        MUST(host[i] == bf16_to_f32(bf16_from_f32(sum)));
    }
    free(host);
    r->backend->free(r->backend, wire);
    r->backend->free(r->backend, data);
}

/* Several at once, in fp64. */
static void a_batch(Rank *r)
{
    const int64_t count = 2 * r->ranks;
    const size_t bytes = (size_t)count * sizeof(double);
    double *data[2], host[2 * RANKS_MOST];
    for (int k = 0; k < 2; k++) {
        for (int64_t i = 0; i < count; i++) host[i] = i / 2 == r->rank ? 1e300 * (double)(i + 1) * (k + 1) : -1;
        data[k] = r->backend->alloc(r->backend, bytes);
        MUST(data[k]);
        OK(r->backend->upload(r->backend, data[k], host, bytes));
    }
    OK(r->collectives->fork(r->backend));
    OK(r->collectives->begin_batch(r->backend));
    for (int k = 0; k < 2; k++) OK(r->collectives->all_gather(r->backend, r->comm, data[k], count, DEVICE_F64));
    OK(r->collectives->end_batch(r->backend));
    OK(r->collectives->mark(r->backend, 2));
    OK(r->collectives->join(r->backend, 2));
    for (int k = 0; k < 2; k++) {
        OK(r->backend->download(r->backend, host, data[k], bytes));
        for (int64_t i = 0; i < count; i++) MUST(host[i] == 1e300 * (double)(i + 1) * (k + 1));
        r->backend->free(r->backend, data[k]);
    }
}

static void collectives_compute_what_they_say(void **state)
{
    for (int ranks = 1; ranks <= RANKS_MOST; ranks++) {
        const int lazy = ranks % 3;
        assert_int_equal(run(ranks, lazy, sums_in_fp32), ranks);
        assert_int_equal(run(ranks, lazy, sums_in_bf16), ranks);
        assert_int_equal(run(ranks, lazy, a_batch), ranks);
    }
    assert_int_equal(run(3, 1, sums_of_everything), 3);
}

/* ---- order ---- */

/* Something computes, its result is summed beside, and something computes with the sum. */
static void queue_three(Rank *r, float *from, float *data, float *to, bool forks, bool joins)
{
    const size_t bytes = SMALL * sizeof *data;
    OK(r->device->copy(r->backend, data, from, bytes));
    if (forks) OK(r->collectives->fork(r->backend));
    OK(r->collectives->all_reduce(r->backend, r->comm, data, SMALL, DEVICE_F32));
    OK(r->collectives->mark(r->backend, 1));
    if (joins) OK(r->collectives->join(r->backend, 1));
    OK(r->device->copy(r->backend, to, data, bytes));
}

/* Elements of the sum that are right. */
static int64_t right_of(Rank *r, bool forks, bool joins)
{
    int64_t right = 0;
    float *from = filled(r, SMALL), *data = r->backend->alloc(r->backend, SMALL * sizeof *data),
          *to = r->backend->alloc(r->backend, SMALL * sizeof *to);
    MUST(data && to);
    queue_three(r, from, data, to, forks, joins);
    OK(r->device->finish(r->backend));
    float *host = fetched(r, to, SMALL);
    for (int64_t i = 0; i < SMALL; i++) right += host[i] == summed(r, i);
    free(host);
    return right;
}

static void with_all_waits(Rank *r)
{
    MUST(right_of(r, true, true) == SMALL);
}

static void without_fork(Rank *r)
{
    MUST(right_of(r, false, true) < SMALL);
}

static void without_join(Rank *r)
{
    MUST(right_of(r, true, false) < SMALL);
}

static void a_missing_wait_shows(void **state)
{
    for (int lazy = 0; lazy < 3; lazy++) assert_int_equal(run(2, lazy, with_all_waits), 2);
    assert_int_equal(run(2, 1, without_join), 2);
    assert_int_equal(run(2, 2, without_fork), 2);
}

/* Replayed with other data each time; its joins take their times outside. */
static void recorded(Rank *r)
{
    Recording *recording = NULL;
    double seconds = -1;
    float *from = filled(r, SMALL), *data = r->backend->alloc(r->backend, SMALL * sizeof *data),
          *to = r->backend->alloc(r->backend, SMALL * sizeof *to), host[SMALL];
    MUST(data && to);
    OK(r->device->record_begin(r->backend));
    queue_three(r, from, data, to, true, true);
    OK(r->device->record_end(r->backend, &recording));
    OK(r->collectives->exposed_seconds(r->backend, &seconds));
    MUST(seconds == 0);
    for (int step = 0; step < 3; step++) {
        for (int i = 0; i < SMALL; i++) host[i] = (float)(step + i);
        OK(r->backend->upload(r->backend, from, host, sizeof host));
        if (step == 2 && r->rank == 1) rest(0.3);
        OK(r->device->replay(r->backend, recording));
        OK(r->device->finish(r->backend));
        OK(r->collectives->exposed_seconds(r->backend, &seconds));
        MUST(seconds >= 0);
        OK(r->backend->download(r->backend, host, to, sizeof host));
        for (int i = 0; i < SMALL; i++) MUST(host[i] == (float)r->ranks * (float)(step + i));
    }
    r->device->recording_free(r->backend, recording);
}

static void not_joined(Rank *r)
{
    Recording *recording = NULL;
    float *from = filled(r, SMALL), *data = filled(r, SMALL), *to = filled(r, SMALL);
    OK(r->device->record_begin(r->backend));
    queue_three(r, from, data, to, true, false);
    MUST(r->device->record_end(r->backend, &recording) == ERR_INTERNAL);
    MUST(strstr(status_message(), "unjoined"));
}

static void they_may_be_recorded(void **state)
{
    for (int lazy = 0; lazy < 3; lazy++) assert_int_equal(run(2, lazy, recorded), 2);
    assert_int_equal(run(1, 0, not_joined), 1);
}

/* What computes stands still while another rank is late; what computes meanwhile does not count. */
static void one_is_late(Rank *r)
{
    double seconds = -1;
    float *from = filled(r, SMALL), *data = filled(r, SMALL), *to = filled(r, SMALL);
    OK(r->device->finish(r->backend));
    if (r->rank == 1) rest(0.5);
    queue_three(r, from, data, to, true, true);
    OK(r->device->finish(r->backend));
    OK(r->collectives->exposed_seconds(r->backend, &seconds));
    MUST(r->rank == 1 ? seconds >= 0 : seconds > 0.25);
    OK(r->collectives->exposed_seconds(r->backend, &seconds));
    MUST(seconds == 0);
}

static void waiting_is_measured(void **state)
{
    assert_int_equal(run(2, 1, one_is_late), 2);
}

/* ---- mistakes ---- */

static void other_counts(Rank *r)
{
    float *data = filled(r, SMALL);
    OK(r->collectives->fork(r->backend));
    OK(r->collectives->all_reduce(r->backend, r->comm, data, SMALL - r->rank, DEVICE_F32));
    MUST(r->device->finish(r->backend) == ERR_COMM);
    MUST(strstr(status_message(), "all-reduce of 999"));
    MUST(strstr(status_message(), "NCCL_DEBUG=INFO"));
    MUST(r->device->finish(r->backend) == ERR_COMM);
    MUST(r->collectives->all_reduce(r->backend, r->comm, data, SMALL, DEVICE_F32) == ERR_COMM);
}

static void other_order(Rank *r)
{
    float *data = filled(r, SMALL);
    OK(r->collectives->fork(r->backend));
    for (int k = 0; k < 2; k++) {
        if (k == r->rank)
            OK(r->collectives->all_reduce(r->backend, r->comm, data, SMALL, DEVICE_F32));
        else
            OK(r->collectives->all_gather(r->backend, r->comm, data, SMALL, DEVICE_F32));
    }
    MUST(r->device->finish(r->backend) == ERR_COMM);
    MUST(strstr(status_message(), "all-gather"));
}

static void one_ends(Rank *r)
{
    float *data = filled(r, SMALL);
    if (r->rank == 1) _exit(3);
    OK(r->collectives->fork(r->backend));
    OK(r->collectives->all_reduce(r->backend, r->comm, data, SMALL, DEVICE_F32));
    MUST(r->device->finish(r->backend) == ERR_COMM);
    MUST(strstr(status_message(), "remote process"));
}

static void shares_that_are_not_equal(Rank *r)
{
    float *data = filled(r, SMALL);
    MUST(r->collectives->all_gather(r->backend, r->comm, data, SMALL - 1, DEVICE_F32) == ERR_INTERNAL);
}

static void mistakes_are_errors(void **state)
{
    for (int lazy = 1; lazy < 3; lazy++) {
        assert_int_equal(run(2, lazy, other_counts), 2);
        assert_int_equal(run(2, lazy, other_order), 2);
    }
    assert_int_equal(run(2, 1, shares_that_are_not_equal), 2);
}

static void a_rank_that_ends_is_an_error_of_the_others(void **state)
{
    assert_int_equal(run(3, 1, one_ends), 2);
}

static void tell(Rank *r)
{
    OK(r->collectives->identity(r->backend, r->meeting->identity[r->rank]));
    OK(r->collectives->fork(r->backend));
    float *data = filled(r, 4);
    OK(r->collectives->all_reduce(r->backend, r->comm, data, 4, DEVICE_F32)); /* all have told */
    OK(r->device->finish(r->backend));
    const bool same = memcmp(r->meeting->identity[0], r->meeting->identity[1], DEVICE_IDENTITY_BYTES) == 0;
    MUST(same == (getenv("VASILY_EMU_DEVICE") != NULL));
    MUST(strstr(r->meeting->identity[0], " at 0000:00:00.0"));
    MUST(strncmp(r->collectives->version(), "NCCL 2.", 7) == 0);
}

static void devices_have_identities(void **state)
{
    assert_int_equal(run(2, 0, tell), 2);
    setenv("VASILY_EMU_DEVICE", "7", 1);
    assert_int_equal(run(2, 0, tell), 2);
    unsetenv("VASILY_EMU_DEVICE");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(collectives_compute_what_they_say),
        cmocka_unit_test(a_missing_wait_shows),
        cmocka_unit_test(they_may_be_recorded),
        cmocka_unit_test(waiting_is_measured),
        cmocka_unit_test(mistakes_are_errors),
        cmocka_unit_test(a_rank_that_ends_is_an_error_of_the_others),
        cmocka_unit_test(devices_have_identities),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
