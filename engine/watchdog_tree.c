/* Who is connected to whom, and how that comes about: identities, addresses and a secret are exchanged once through the
 * communicator; then each rank connects to its parent and waits for its children. */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/file.h"
#include "base/hash.h"
#include "engine/watchdog_internal.h"

/* Connecting takes milliseconds; a machine that is still starting its network may need some more. */
#define CONNECT_SECONDS 60.0
/* Rank 0 welcomes at once; what connects and says nothing is somebody else. */
#define WELCOME_SECONDS 10.0
#define STRANGER_SECONDS 5.0
enum { STRANGERS = 16 };

typedef struct Identity {
    char host[WATCH_HOST_MAX];
    uint64_t machine; /* hash: the same for ranks that have one leader */
    uint64_t place;   /* hash: the same for ranks that reach each other's loopback */
} Identity;

typedef struct Place {
    uint64_t machine;
    int32_t rank;
} Place;

int watchdog_parent(const Watchdog *w, int rank)
{
    if (rank == 0) return -1;
    return w->leaders[rank] == rank ? 0 : w->leaders[rank];
}

/* ---- who is where ---- */

/* The boot and the network's namespace: containers of one machine with networks of their own are machines of their own.
 */
static void identify(Identity *identity, const char *machine)
{
    char text[512], network[64] = "", *boot = NULL;
    size_t size = 0;
    memset(identity, 0, sizeof *identity);
    if (gethostname(identity->host, sizeof identity->host - 1) != 0) memcpy(identity->host, "?", 2);
    if (readlink("/proc/self/ns/net", network, sizeof network - 1) < 0) network[0] = '\0';
    if (file_read("/proc/sys/kernel/random/boot_id", 64, &boot, &size) != STATUS_OK) boot = NULL;
    snprintf(text, sizeof text, "%s %s %s", identity->host, boot ? boot : "", network);
    free(boot);
    identity->place = hash_string64(text);
    identity->machine = machine ? hash_string64(machine) : identity->place;
}

static int compare_places(const void *a, const void *b)
{
    const Place *p = a, *q = b;
    if (p->machine != q->machine) return p->machine < q->machine ? -1 : 1;
    return p->rank < q->rank ? -1 : p->rank > q->rank;
}

static Status find_leaders(Watchdog *w, const Identity *all, bool *several)
{
    Status status = STATUS_OK;
    Place *places = mem_alloc_array((size_t)w->world, sizeof *places);
    if (!places) FAIL(ERR_MEMORY, "no memory for the machines of %d ranks", w->world);
    for (int r = 0; r < w->world; r++) places[r] = (Place){all[r].machine, r};
    qsort(places, (size_t)w->world, sizeof *places, compare_places);
    for (int i = 0; i < w->world; i++) {
        const bool same = i > 0 && places[i].machine == places[i - 1].machine;
        w->leaders[places[i].rank] = same ? w->leaders[places[i - 1].rank] : places[i].rank;
    }
    *several = false;
    for (int r = 0; r < w->world; r++) {
        *several = *several || w->leaders[r] != 0;
        if (watchdog_parent(w, r) == w->rank) w->children++;
        memcpy(w->hosts[r], all[r].host, WATCH_HOST_MAX);
        w->hosts[r][WATCH_HOST_MAX - 1] = '\0';
    }
fail:
    free(places);
    return status;
}

/* A machine is a file to rank 0, and the usual limit is 1024. */
static Status make_room_for_children(Watchdog *w)
{
    Status status = STATUS_OK;
    struct rlimit limit;
    const rlim_t wanted = (rlim_t)w->children + 512;
    w->down = mem_alloc_array((size_t)w->children + 1, sizeof *w->down);
    if (!w->down) FAIL(ERR_MEMORY, "no memory for the watchdog's %d connections", w->children);
    for (int i = 0; i < w->children; i++) w->down[i].fd = w->down[i].rank = -1;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur >= wanted) return STATUS_OK;
    limit.rlim_cur = limit.rlim_max < wanted ? limit.rlim_max : wanted;
    (void)setrlimit(RLIMIT_NOFILE, &limit);
    if (limit.rlim_cur < (rlim_t)w->children + 64)
        FAIL(ERR_LIMIT, "the watchdog of this rank needs %d connections, but `ulimit -Hn` allows %llu files; raise it",
             w->children, (unsigned long long)limit.rlim_max);
fail:
    return status;
}

/* ---- connecting ---- */

static void say(WatchLink *link, const Watchdog *w, WatchFrameType type, const uint8_t *secret)
{
    WatchFrame frame = {.type = type, .rank = w->rank};
    memcpy(frame.is.secret, secret, WATCH_SECRET);
    (void)watch_link_send(link, &frame);
}

/* Waits for the one frame that proves who is there. */
static bool is_welcomed(Watchdog *w, const uint8_t *secret, double seconds)
{
    const double end = clock_seconds() + seconds;
    WatchFrame frame;
    for (;;) {
        switch (watch_link_receive(&w->up, w->world, &frame)) {
        case WATCH_FRAME:
            return frame.type == WATCH_FRAME_WELCOME && frame.rank == w->up.rank &&
                   memcmp(frame.is.secret, secret + WATCH_SECRET, WATCH_SECRET) == 0;
        case WATCH_CLOSED:
            return false;
        case WATCH_NOTHING:
            break;
        }
        const double left = end - clock_seconds();
        if (left <= 0) return false;
        struct pollfd wait = {.fd = w->up.fd, .events = POLLIN};
        (void)poll(&wait, 1, (int)(left * 1e3) + 1);
    }
}

static Status connect_up(Watchdog *w, const WatchAddresses *to, bool same_place, const uint8_t *secret)
{
    Status status = STATUS_OK;
    const int parent = watchdog_parent(w, w->rank);
    const double end = clock_seconds() + CONNECT_SECONDS;
    /* A leader welcomes when it has been welcomed itself. */
    const double patience = parent == 0 ? WELCOME_SECONDS : CONNECT_SECONDS;
    int next = 0;
    for (;;) {
        int fd = -1;
        const double left = end - clock_seconds();
        status = to->port > 0 ? watch_connect(to, same_place, left, &next, &fd)
                              : status_fail(ERR_COMM, __FILE__, __LINE__, "it does not listen; its log says why");
        if (status == STATUS_OK) {
            watch_link_open(&w->up, fd, parent);
            say(&w->up, w, WATCH_FRAME_HELLO, secret);
            if (is_welcomed(w, secret, patience < left ? patience : left)) return STATUS_OK;
            watch_link_close(&w->up);
            status = status_fail(ERR_COMM, __FILE__, __LINE__, "what answers there is not a rank of this job");
        }
        if (to->port <= 0 || clock_seconds() >= end) break;
        usleep(100000);
    }
    status_prefix("rank %d on %s does not reach rank %d on %s for the watchdog (a firewall between them? With both "
                  "parallel.silent_seconds and parallel.stall_seconds 0 there is no watchdog): ",
                  w->rank, w->hosts[w->rank], parent, w->hosts[parent]);
    return status_trace(status, __FILE__, __LINE__);
}

/* A stranger has spoken: one of the children, or nobody. A child that tried again replaces itself. */
static void admit(Watchdog *w, WatchLink *stranger, const WatchFrame *frame, const uint8_t *secret, int *missing)
{
    const bool known = frame->type == WATCH_FRAME_HELLO && memcmp(frame->is.secret, secret, WATCH_SECRET) == 0 &&
                       watchdog_parent(w, frame->rank) == w->rank;
    WatchLink *to = NULL;
    for (int i = 0; known && i < w->children && !to; i++)
        if (w->down[i].rank < 0 || w->down[i].rank == frame->rank) to = &w->down[i];
    if (!to) {
        watch_link_close(stranger);
        return;
    }
    /* Places are taken in order, so the child's own comes before the first free one. */
    if (to->rank < 0) (*missing)--;
    watch_link_close(to);
    watch_link_open(to, stranger->fd, frame->rank);
    stranger->fd = -1;
    say(to, w, WATCH_FRAME_WELCOME, secret + WATCH_SECRET);
}

static void accept_strangers(WatchLink strangers[STRANGERS], int listener)
{
    for (int i = 0; i < STRANGERS; i++) {
        if (strangers[i].fd >= 0) continue;
        const int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
        if (fd < 0) return;
        watch_link_open(&strangers[i], fd, -1);
        strangers[i].heard = clock_seconds();
    }
}

Status watchdog_accept_children(Watchdog *w, int listener, const uint8_t secret[2 * WATCH_SECRET])
{
    Status status = STATUS_OK;
    WatchLink strangers[STRANGERS];
    struct pollfd wait[STRANGERS + 1];
    const double end = clock_seconds() + CONNECT_SECONDS;
    int missing = w->children;
    for (int i = 0; i < STRANGERS; i++) strangers[i].fd = -1;
    while (missing > 0 && clock_seconds() < end) {
        bool full = true;
        for (int i = 0; i < STRANGERS; i++) {
            wait[i] = (struct pollfd){.fd = strangers[i].fd, .events = POLLIN};
            full = full && strangers[i].fd >= 0;
        }
        wait[STRANGERS] = (struct pollfd){.fd = full ? -1 : listener, .events = POLLIN};
        (void)poll(wait, STRANGERS + 1, 200);
        accept_strangers(strangers, listener);
        for (int i = 0; i < STRANGERS; i++) {
            WatchFrame frame;
            if (strangers[i].fd < 0) continue;
            const WatchReceived got = watch_link_receive(&strangers[i], w->world, &frame);
            if (got == WATCH_FRAME) admit(w, &strangers[i], &frame, secret, &missing);
            const bool late = clock_seconds() - strangers[i].heard > STRANGER_SECONDS;
            if (got == WATCH_CLOSED || (got == WATCH_NOTHING && late)) watch_link_close(&strangers[i]);
        }
    }
    for (int i = 0; i < STRANGERS; i++) watch_link_close(&strangers[i]);
    if (missing > 0)
        FAIL(ERR_COMM, "%d of %d ranks have not connected to the watchdog of rank %d on %s; their logs say why",
             missing, w->children, w->rank, w->hosts[w->rank]);
fail:
    return status;
}

/* Collective: all ranks return the same. */
static Status agree(Watchdog *w, Status mine)
{
    Status status = STATUS_OK;
    StatusRecord record;
    double first = mine == STATUS_OK ? w->world : w->rank;
    if (mine != STATUS_OK) status_save(mine, &record);
    TRY(comm_all_reduce_f64(w->comm, &first, 1, COMM_MIN));
    if (mine != STATUS_OK) return status_restore(&record);
    if (first < w->world)
        FAIL(ERR_COMM, "the watchdog of rank %d on %s does not start; its log says why", (int)first,
             w->hosts[(int)first]);
fail:
    return status;
}

Status watchdog_tree_open(Watchdog *w, const char *machine)
{
    Status status = STATUS_OK;
    Identity self, *all = NULL;
    WatchAddresses here = {0}, *addresses = NULL;
    uint8_t secret[2 * WATCH_SECRET] = {0};
    int listener = -1;
    bool several = false;
    w->up.fd = -1;
    identify(&self, machine);
    w->hosts = mem_alloc_array((size_t)w->world, sizeof *w->hosts);
    w->leaders = mem_alloc_array((size_t)w->world, sizeof *w->leaders);
    all = mem_alloc_array((size_t)w->world, sizeof *all);
    addresses = mem_alloc_array((size_t)w->world, sizeof *addresses);
    if (!w->hosts || !w->leaders || !all || !addresses)
        FAIL(ERR_MEMORY, "no memory for the watchdog of %d ranks", w->world);
    if (w->rank == 0 && getrandom(secret, sizeof secret, 0) != (ssize_t)sizeof secret)
        FAIL(ERR_IO, "the system gives no random numbers: %s", strerror(errno));
    TRY(comm_broadcast(w->comm, secret, sizeof secret, 0));
    TRY(comm_all_gather(w->comm, &self, sizeof self, all));
    TRY(find_leaders(w, all, &several));

    Status mine = make_room_for_children(w);
    if (mine == STATUS_OK && w->children > 0) mine = watch_listen(w->rank == 0 && several, &listener, &here);
    TRY(comm_all_gather(w->comm, &here, sizeof here, addresses));
    const int parent = watchdog_parent(w, w->rank);
    if (mine == STATUS_OK && parent >= 0)
        mine = connect_up(w, &addresses[parent], all[parent].place == self.place, secret);
    if (mine == STATUS_OK && w->children > 0) mine = watchdog_accept_children(w, listener, secret);
    TRY(agree(w, mine));
fail:
    if (listener >= 0) close(listener);
    free(addresses);
    free(all);
    return status;
}

void watchdog_tree_close(Watchdog *w)
{
    watch_link_close(&w->up);
    for (int i = 0; i < w->children && w->down; i++) watch_link_close(&w->down[i]);
    free(w->down);
    free(w->leaders);
    free(w->hosts);
}
