/* The watchdog's thread: heartbeats, judging, and the end of the process.
 *
 * The end goes down and up the tree once: the verdict to everybody; "done" from those who have written their flight
 * record; "end" when all are done. So nobody's exit, which makes most launchers kill the rest, comes before the others
 * have said what they know. It is bounded by ENDING_SECONDS, for ranks that do not answer. */
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/file.h"
#include "base/log.h"
#include "engine/watchdog_internal.h"

#define ENDING_SECONDS 3.0
#define ORPHAN_SECONDS 1.0
#define GOODBYE_SECONDS 2.0
/* The process ends by a signal so long after a verdict, should even the log be stuck; a rank that failed by itself
 * frees its memory meanwhile. */
enum { LAST_RESORT_SECONDS = 6, LAST_RESORT_FAILED_SECONDS = 30 };
#define REST_SECONDS 0.25 /* between looks, at most */
enum { EVENTS = 64 };

/* ---- the last resort ---- */

static volatile sig_atomic_t last_code = WATCHDOG_EXIT_CODE;

static void end_at_last(int signal_number)
{
    (void)signal_number;
    _exit(last_code);
}

static void set_last_resort(int code, unsigned seconds)
{
    struct sigaction action = {.sa_handler = end_at_last};
    last_code = code;
    sigemptyset(&action.sa_mask);
    (void)sigaction(SIGALRM, &action, NULL);
    (void)alarm(seconds);
}

/* ---- sending ---- */

static bool is_open(const WatchLink *link)
{
    return link->fd >= 0 && !link->goodbye;
}

static void send_down(Watchdog *w, const WatchFrame *frame, const WatchLink *but)
{
    for (int i = 0; i < w->children; i++)
        if (&w->down[i] != but) (void)watch_link_send(&w->down[i], frame);
}

static void read_position(Watchdog *w)
{
    const int64_t before = w->own.oldest;
    watch_position_read(w->flight, &w->own);
    if (w->own.oldest != before) w->own_since = w->clock;
    w->own.waited = w->own.oldest >= 0 ? w->clock - w->own_since : 0;
    if (w->rank != 0) return;
    w->positions[0] = w->own;
    w->heard[0] = w->clock;
}

static void beat(Watchdog *w)
{
    if (w->clock < w->next_beat) return;
    w->next_beat = w->clock + w->heartbeat;
    read_position(w);
    const WatchFrame frame = {.type = WATCH_FRAME_BEAT, .rank = w->rank, .is.position = w->own};
    (void)watch_link_send(&w->up, &frame);
    send_down(w, &frame, NULL);
}

/* ---- ending ---- */

static void write_flight_record(Watchdog *w, const char *reason)
{
    char path[PATH_MAX], name[32];
    const FlightHeader header = {.rank = w->rank, .world = w->world, .host = w->hosts[w->rank], .reason = reason};
    snprintf(name, sizeof name, "rank-%d.jsonl", w->rank);
    if (path_join(path, sizeof path, w->folder, name) != STATUS_OK || file_make_dirs(w->folder) != STATUS_OK ||
        flight_record_write(w->flight, &header, path) != STATUS_OK)
        log_warn("no flight record: %s", status_message());
}

/* A full disk or a wrong config has nothing to do with collectives, nor have ranks that differ before they train. */
static bool concerns_collectives(const WatchVerdict *verdict)
{
    return verdict->reason != WATCH_FAILED || verdict->status == ERR_COMM || verdict->status == ERR_INTERNAL ||
           (verdict->status == ERR_MISMATCH && verdict->position.step >= 0);
}

static void log_verdict(const Watchdog *w, const WatchVerdict *verdict, const char *text)
{
    log_live_line(NULL);
    if (concerns_collectives(verdict))
        log_error("%s; the job ends with code %d, this rank's last collectives are in %s/rank-%d.jsonl", text,
                  (int)verdict->code, w->folder, w->rank);
    else
        log_error("%s; the job ends with code %d", text, (int)verdict->code);
}

/* This rank has said itself why it fails; another that fails alike is not to blame. With ERR_COMM it may be. */
static bool fails_alike(Watchdog *w, const WatchVerdict *verdict)
{
    pthread_mutex_lock(&w->lock);
    const bool alike = w->failing && w->fail_status != ERR_COMM && verdict->reason == WATCH_FAILED &&
                       verdict->status == (int32_t)w->fail_status;
    pthread_mutex_unlock(&w->lock);
    return alike;
}

/* `from` has told us; NULL: decided here. */
static void end_with(Watchdog *w, const WatchVerdict *verdict, const WatchLink *from, bool own_failure)
{
    char text[WATCH_TEXT_MAX];
    if (w->ending) return;
    w->ending = true;
    w->own_failure = own_failure;
    w->verdict = *verdict;
    w->deadline = clock_seconds() + ENDING_SECONDS;
    set_last_resort(verdict->code, own_failure ? LAST_RESORT_FAILED_SECONDS : LAST_RESORT_SECONDS);
    const WatchFrame frame = {.type = WATCH_FRAME_VERDICT, .rank = verdict->rank, .is.verdict = *verdict};
    if (&w->up != from) (void)watch_link_send(&w->up, &frame);
    send_down(w, &frame, from);
    read_position(w);
    watch_verdict_text(verdict, &w->own, text);
    if (!own_failure && !fails_alike(w, verdict)) log_verdict(w, verdict, text);
    if (concerns_collectives(verdict)) write_flight_record(w, text);
}

static void step_ending(Watchdog *w)
{
    bool ready = true;
    for (int i = 0; i < w->children; i++) ready = ready && (!is_open(&w->down[i]) || w->down[i].done);
    const WatchFrame done = {.type = WATCH_FRAME_DONE, .rank = w->rank};
    const WatchFrame end = {.type = WATCH_FRAME_END, .rank = w->rank};
    if (clock_seconds() > w->deadline) w->over = true;
    if (ready && !is_open(&w->up) && clock_seconds() >= w->not_before) w->over = true;
    if (ready && !w->told) (void)watch_link_send(&w->up, &done);
    w->told = w->told || ready;
    if (w->over) send_down(w, &end, NULL);
}

/* ---- receiving ---- */

static void decide(Watchdog *w, WatchVerdict *verdict, const WatchLink *about)
{
    verdict->code = WATCHDOG_EXIT_CODE;
    memcpy(verdict->host, w->hosts[verdict->rank], sizeof verdict->host);
    end_with(w, verdict, about, false);
}

static void lose(Watchdog *w, WatchLink *link, WatchReason reason)
{
    WatchVerdict verdict = {.reason = (int32_t)reason,
                            .rank = link->rank,
                            .seconds = w->clock - link->heard,
                            .collective = -1,
                            .position = link->position};
    watch_link_close(link); /* nothing is waited for from there */
    /* Through the lost rank went this one's word to the others, who are about to find out by themselves; but the
     * launcher ends them when the first process has ended. */
    if (link == &w->up) w->not_before = clock_seconds() + ORPHAN_SECONDS + 2 * w->heartbeat;
    if (!link->goodbye) decide(w, &verdict, link);
}

static void take_beat(Watchdog *w, WatchLink *link, const WatchFrame *frame)
{
    const bool own = frame->rank == link->rank;
    const bool below = watchdog_parent(w, frame->rank) == link->rank;
    if (own) link->position = frame->is.position;
    if (link == &w->up || (!own && !below)) return;
    if (w->rank != 0) {
        (void)watch_link_send(&w->up, frame);
        return;
    }
    w->positions[frame->rank] = frame->is.position;
    w->heard[frame->rank] = w->clock;
}

static void take_frame(Watchdog *w, WatchLink *link, const WatchFrame *frame)
{
    switch ((WatchFrameType)frame->type) {
    case WATCH_FRAME_BEAT:
        take_beat(w, link, frame);
        break;
    case WATCH_FRAME_VERDICT:
        end_with(w, &frame->is.verdict, link, false);
        break;
    case WATCH_FRAME_GOODBYE:
        link->goodbye = true;
        break;
    case WATCH_FRAME_DONE:
        link->done = true;
        break;
    case WATCH_FRAME_END:
        if (link == &w->up && w->ending) w->over = true;
        break;
    case WATCH_FRAME_HELLO:
    case WATCH_FRAME_WELCOME:
    case WATCH_FRAME_LAST:
        break;
    }
}

static void receive(Watchdog *w, WatchLink *link)
{
    WatchFrame frame;
    WatchReceived got;
    watch_link_flush(link);
    while ((got = watch_link_receive(link, w->world, &frame)) == WATCH_FRAME) {
        link->heard = w->clock;
        take_frame(w, link, &frame);
    }
    if (got == WATCH_CLOSED && link->fd >= 0) lose(w, link, WATCH_DIED);
}

/* ---- judging ---- */

static void judge_silence(Watchdog *w, WatchLink *link)
{
    if (is_open(link) && w->clock - link->heard > w->silent) lose(w, link, WATCH_SILENT);
}

static void judge_waiting(Watchdog *w)
{
    WatchVerdict verdict;
    double sum = 0;
    for (int r = 0; r < w->world; r++) {
        const WatchPosition *p = &w->positions[r];
        sum += (double)p->step + (double)p->begun + (double)(p->oldest < 0 ? p->begun : p->oldest);
    }
    if (sum != w->progress) w->progressed = w->clock;
    w->progress = sum;
    if (!watch_judge(w->positions, w->world, w->stall, w->clock - w->progressed, &verdict)) return;
    const double unheard = w->clock - w->heard[verdict.rank];
    if (unheard > 3 * w->heartbeat) {
        /* Whether it lives is not known: silence is judged by its own bound, if there is one. */
        if (w->silent > 0) return;
        verdict.reason = WATCH_SILENT;
        verdict.seconds = unheard;
    }
    decide(w, &verdict, NULL);
}

/* Not at every look: rank 0 of 10,000 looks thousands of times a second, and judging takes it 0.1 ms. */
static void judge(Watchdog *w)
{
    if (w->clock < w->next_judgement) return;
    w->next_judgement = w->clock + w->heartbeat / 4;
    if (w->silent > 0 && !w->ending) judge_silence(w, &w->up);
    for (int i = 0; i < w->children && w->silent > 0 && !w->ending; i++) judge_silence(w, &w->down[i]);
    if (w->stall > 0 && w->rank == 0 && !w->ending) judge_waiting(w);
}

/* ---- the thread ---- */

/* A look that comes far too late means that this rank was stopped, or starved: then the others could not be heard. */
static void advance_clock(Watchdog *w)
{
    const double now = clock_seconds(), passed = now - w->looked;
    w->clock += passed < 2 * w->heartbeat ? passed : 2 * w->heartbeat;
    w->looked = now;
}

static void wait_and_receive(Watchdog *w)
{
    struct epoll_event events[EVENTS];
    uint64_t woken;
    const double rest = w->heartbeat / 2 < REST_SECONDS ? w->heartbeat / 2 : REST_SECONDS;
    const int count = epoll_wait(w->epoll, events, EVENTS, w->ending ? 10 : (int)(rest * 1e3) + 1);
    advance_clock(w);
    for (int i = 0; i < count; i++) {
        if (events[i].data.ptr)
            receive(w, events[i].data.ptr);
        else
            (void)!read(w->wake, &woken, sizeof woken);
    }
}

/* This rank has failed; where another's death may be the reason, that is waited for first. */
static void take_failure(Watchdog *w)
{
    WatchVerdict verdict = {.reason = WATCH_FAILED, .rank = w->rank, .collective = -1};
    pthread_mutex_lock(&w->lock);
    const bool failing = w->failing;
    verdict.status = (int32_t)w->fail_status;
    verdict.code = status_exit_code(w->fail_status);
    const double patience = w->fail_patience;
    memcpy(verdict.message, w->fail_message, sizeof verdict.message);
    pthread_mutex_unlock(&w->lock);
    if (!failing || w->ending) return;
    if (w->fail_at <= 0) w->fail_at = clock_seconds() + patience;
    if (clock_seconds() < w->fail_at) return;
    read_position(w);
    verdict.position = w->own;
    memcpy(verdict.host, w->hosts[w->rank], sizeof verdict.host);
    end_with(w, &verdict, NULL, true);
}

static bool is_closing(Watchdog *w)
{
    pthread_mutex_lock(&w->lock);
    const bool closing = w->closing;
    pthread_mutex_unlock(&w->lock);
    return closing;
}

/* Closing a socket in which something is unread makes the system throw away what was sent: so everybody reads to the
 * other's end. */
static void say_goodbye(Watchdog *w)
{
    const WatchFrame goodbye = {.type = WATCH_FRAME_GOODBYE, .rank = w->rank};
    const double end = clock_seconds() + GOODBYE_SECONDS;
    for (int i = -1; i < w->children; i++) {
        WatchLink *link = i < 0 ? &w->up : &w->down[i];
        (void)watch_link_send(link, &goodbye);
        if (link->fd >= 0) (void)shutdown(link->fd, SHUT_WR);
    }
    for (int i = -1; i < w->children; i++) {
        WatchLink *link = i < 0 ? &w->up : &w->down[i];
        WatchFrame frame;
        WatchReceived got = WATCH_NOTHING;
        while (link->fd >= 0 && got != WATCH_CLOSED && clock_seconds() < end) {
            struct pollfd wait = {.fd = link->fd, .events = POLLIN};
            if (got == WATCH_NOTHING) (void)poll(&wait, 1, 50);
            got = watch_link_receive(link, w->world, &frame);
        }
        watch_link_close(link);
    }
}

static void *thread_main(void *argument)
{
    Watchdog *w = argument;
    while (!w->over && !(is_closing(w) && !w->ending)) {
        wait_and_receive(w);
        if (w->ending) {
            step_ending(w);
            continue;
        }
        beat(w);
        judge(w);
        take_failure(w);
    }
    if (!w->ending)
        say_goodbye(w);
    else if (!w->own_failure)
        _exit(w->verdict.code);
    return NULL;
}

/* ---- opening and closing ---- */

static Status poll_link(Watchdog *w, WatchLink *link)
{
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = link};
    if (link->fd < 0) return STATUS_OK;
    link->heard = w->clock;
    if (epoll_ctl(w->epoll, EPOLL_CTL_ADD, link->fd, &event) == 0) return STATUS_OK;
    return status_fail(ERR_COMM, __FILE__, __LINE__, "the watchdog cannot watch a connection: %s", strerror(errno));
}

static Status start(Watchdog *w)
{
    Status status = STATUS_OK;
    struct epoll_event event = {.events = EPOLLIN};
    sigset_t all, before;
    w->epoll = epoll_create1(EPOLL_CLOEXEC);
    w->wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (w->epoll < 0 || w->wake < 0 || epoll_ctl(w->epoll, EPOLL_CTL_ADD, w->wake, &event) != 0)
        FAIL(ERR_COMM, "the watchdog cannot wait for several things: %s", strerror(errno));
    TRY(poll_link(w, &w->up));
    for (int i = 0; i < w->children; i++) TRY(poll_link(w, &w->down[i]));
    w->looked = clock_seconds();
    sigfillset(&all); /* signals are the main thread's */
    pthread_sigmask(SIG_SETMASK, &all, &before);
    const int failed = pthread_create(&w->thread, NULL, thread_main, w);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (failed) FAIL(ERR_COMM, "the watchdog's thread does not start: %s", strerror(failed));
    w->started = true;
fail:
    return status;
}

static double shorter(double heartbeat, double bound)
{
    return bound > 0 && bound / 4 < heartbeat ? bound / 4 : heartbeat;
}

static void watchdog_free(Watchdog *w)
{
    if (!w) return;
    if (w->started) pthread_join(w->thread, NULL);
    watchdog_tree_close(w);
    if (w->epoll >= 0) close(w->epoll);
    if (w->wake >= 0) close(w->wake);
    pthread_mutex_destroy(&w->lock);
    free(w->positions);
    free(w->heard);
    free(w);
}

Status watchdog_open(const WatchdogOptions *options, Watchdog **out)
{
    Status status = STATUS_OK;
    Watchdog *w = NULL;
    *out = NULL;
    if (comm_world(options->comm) < 2 || (options->silent_seconds <= 0 && options->stall_seconds <= 0))
        return STATUS_OK;
    w = mem_alloc_array(1, sizeof *w);
    if (!w) return status_fail(ERR_MEMORY, __FILE__, __LINE__, "no memory for the watchdog");
    w->epoll = w->wake = w->up.fd = -1;
    w->comm = options->comm;
    w->flight = comm_flight_record(w->comm);
    w->rank = comm_rank(w->comm);
    w->world = comm_world(w->comm);
    w->silent = options->silent_seconds;
    w->stall = options->stall_seconds;
    w->heartbeat = shorter(shorter(options->heartbeat_seconds, w->silent), w->stall);
    pthread_mutex_init(&w->lock, NULL);
    if (strlen(options->folder) >= sizeof w->folder) FAIL(ERR_LIMIT, "%s: the path is too long", options->folder);
    memcpy(w->folder, options->folder, strlen(options->folder) + 1);
    if (w->rank == 0) {
        w->positions = mem_alloc_array((size_t)w->world, sizeof *w->positions);
        w->heard = mem_alloc_array((size_t)w->world, sizeof *w->heard);
        if (!w->positions || !w->heard) FAIL(ERR_MEMORY, "no memory for the positions of %d ranks", w->world);
        for (int r = 0; r < w->world; r++) w->positions[r].begun = w->positions[r].oldest = -1;
    }
    w->own.oldest = -1;
    TRY(watchdog_tree_open(w, options->machine));
    TRY(start(w));
    *out = w;
    return STATUS_OK;
fail:
    watchdog_free(w);
    return status;
}

static void wake(Watchdog *w)
{
    const uint64_t one = 1;
    (void)!write(w->wake, &one, sizeof one);
}

Status watchdog_close(Watchdog *w)
{
    Status status = STATUS_OK;
    if (!w) return STATUS_OK;
    TRY(comm_barrier(w->comm));
    pthread_mutex_lock(&w->lock);
    w->closing = true;
    pthread_mutex_unlock(&w->lock);
    wake(w);
    watchdog_free(w);
fail:
    return status;
}

void watchdog_fail(Watchdog *w, Status status)
{
    if (!w) return;
    pthread_mutex_lock(&w->lock);
    w->failing = true;
    w->fail_status = status;
    w->fail_patience = status == ERR_COMM ? 1 : 0;
    snprintf(w->fail_message, sizeof w->fail_message, "%s", status_message());
    pthread_mutex_unlock(&w->lock);
    wake(w);
    watchdog_free(w);
}
