/* What ranks say when their facts differ: `mpirun -n N test_agreement`, N of 1, 2 and 4. Every rank must have the same
 * words; rank 0 looks at them. Exits 0 where all was as it should be. */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "train/run_agreement.h"

static Comm *comm;
static int failures;

static void expect(bool holds, const char *what)
{
    if (holds) return;
    fprintf(stderr, "rank %d: %s\nlast message: %s\n", comm_rank(comm), what, status_message());
    failures++;
}

/* The message has `words`; a "@" in them stands for this host's name. */
static void expect_words(const char *words)
{
    char host[65] = "", text[600];
    size_t size = 0;
    gethostname(host, sizeof host - 2);
    for (const char *c = words; *c && size < sizeof text - 66; c++) {
        if (*c != '@')
            text[size++] = *c;
        else
            size += (size_t)snprintf(text + size, sizeof text - size, "%s", host);
    }
    text[size] = 0;
    if (!strstr(status_message(), text)) expect(false, text);
}

static Status compare(Agreement *facts)
{
    Status status = agreement_compare(facts, comm, "unlike", "Do this.");
    char message[STATUS_MESSAGE_MAX];
    if (status != STATUS_OK) {
        memset(message, 0, sizeof message);
        snprintf(message, sizeof message, "%s", status_message());
        if (comm_broadcast(comm, message, sizeof message, 0) != STATUS_OK) expect(false, "broadcast");
        expect(strcmp(message, status_message()) == 0, "another message than rank 0's");
    }
    agreement_free(facts);
    return status;
}

static void add(Agreement *facts, const char *key, const char *value)
{
    expect(agreement_add(facts, key, "%s", value) == STATUS_OK, "adding a fact");
}

static void test_alike(void)
{
    Agreement facts = {0};
    add(&facts, "one", "1");
    add(&facts, "empty", "");
    expect(compare(&facts) == STATUS_OK, "facts are the same");
    expect(compare(&facts) == STATUS_OK, "no facts are the same");
}

/* The last rank has one more letter, and another number of facts. */
static void test_odd_one(int rank, int world)
{
    Agreement facts = {0};
    add(&facts, "same", "x");
    add(&facts, "optim.max_lr", rank == world - 1 ? "0.0002" : "0.0001");
    if (rank == world - 1) add(&facts, "more", "of it");
    if (rank != world - 1) add(&facts, "less", "");
    expect(compare(&facts) == ERR_MISMATCH, "facts differ");
    expect(strncmp(status_message(), "unlike:\n", 8) == 0, "how it begins");
    expect_words("\nDo this.");
    expect(!strstr(status_message(), "same"), "what is the same is not mentioned");
    if (world == 2) {
        expect_words("  optim.max_lr: rank 0 on @ has 0.0001; rank 1 on @ has 0.0002\n");
        expect_words("  more: rank 0 on @ has none; rank 1 on @ has of it\n");
        return;
    }
    expect_words("  rank 3 on @ has optim.max_lr 0.0002, the other 3 have 0.0001\n");
    expect_words("  rank 3 on @ has more of it, the other 3 have none\n");
    expect_words("  rank 3 on @ has no less, the other 3 have \"\"\n");
}

/* Two facts, each wrong on a rank of its own: four ranks make three classes, yet each fact has one odd rank. */
static void test_two_odd_ones(int rank)
{
    Agreement facts = {0};
    add(&facts, "a", rank == 1 ? "other" : "usual");
    add(&facts, "b", rank == 2 ? "other" : "usual");
    expect(compare(&facts) == ERR_MISMATCH, "facts differ");
    expect_words(
        "  rank 1 on @ has a other, the other 3 have usual\n  rank 2 on @ has b other, the other 3 have usual\n");

    char own[16];
    snprintf(own, sizeof own, "%d", rank < 2 ? 9 : rank);
    add(&facts, "c", own);
    expect(compare(&facts) == ERR_MISMATCH, "facts differ");
    expect_words("  c: ranks 0-1 on @ have 9; rank 2 on @ has 2; rank 3 on @ has 3\n");
}

/* Of long values the part that differs is shown; what is too long to send is told apart by its hash. */
static void test_long_values(int rank)
{
    Agreement facts = {0};
    char value[5000];
    memset(value, 'v', sizeof value);
    memcpy(value + 500, rank ? "RIGHT" : "WRONG", 5);
    value[900] = 0;
    add(&facts, "long", value);
    expect(compare(&facts) == ERR_MISMATCH, "long values differ");
    expect_words("vvvvWRONGvvvv");
    expect_words("vvvvRIGHTvvvv");

    memset(value, 'v', sizeof value);
    value[4999] = 0;
    value[4000] = rank ? 'a' : 'b';
    add(&facts, "longer", value);
    expect(compare(&facts) == ERR_MISMATCH, "longer values differ");
    expect_words("... (4999 bytes, hash ");
}

static void test_many(int rank)
{
    Agreement facts = {0};
    char key[16], value[64];
    for (int i = 0; i < 500; i++) {
        snprintf(key, sizeof key, "key %d", i);
        snprintf(value, sizeof value, "value %d of rank %d", i, rank);
        add(&facts, key, value);
    }
    expect(compare(&facts) == ERR_MISMATCH, "all differs");
    expect_words("key 0: rank 0 on @ has value 0 of rank 0; rank 1 on @ has value 0 of rank 1");
    expect_words(" more differences\nDo this.");
}

/* Another kind of device ends the job; another number of threads is only said. */
static void test_devices(int rank)
{
    Backend *ref = NULL, *cpu = NULL;
    expect(backend_open_ref(&(BackendOptions){.threads = 1}, &ref) == STATUS_OK, "opening ref");
    expect(backend_open_cpu(&(BackendOptions){.threads = 1 + rank % 2}, &cpu) == STATUS_OK, "opening cpu");
    expect(run_agreement_check_device(rank == 1 ? ref : cpu, DTYPE_F32, comm) == ERR_MISMATCH, "unlike devices");
    expect_words(comm_world(comm) == 2 ? "  device: rank 0 on @ has cpu; rank 1 on @ has ref\n"
                                       : "  rank 1 on @ has device ref, the other 3 have cpu\n");
    expect(run_agreement_check_device(cpu, rank == 1 ? DTYPE_F32 : DTYPE_BF16, comm) == ERR_MISMATCH,
           "unlike arithmetic");
    expect(run_agreement_check_device(cpu, DTYPE_F32, comm) == STATUS_OK, "unlike threads");
    backend_close(ref);
    backend_close(cpu);
}

int main(void)
{
    if (comm_open(&comm) != STATUS_OK) {
        fprintf(stderr, "%s\n", status_message());
        return 1;
    }
    const int rank = comm_rank(comm), world = comm_world(comm);
    test_alike();
    if (world == 2 || world == 4) test_odd_one(rank, world);
    if (world == 4) test_two_odd_ones(rank);
    if (world > 1) test_long_values(rank);
    if (world > 1) test_many(rank);
    if (world > 1) test_devices(rank);
    comm_close(comm);
    return failures ? 1 : 0;
}
