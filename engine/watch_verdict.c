#include "engine/watch_verdict.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

void watch_position_read(FlightRecord *record, WatchPosition *out)
{
    FlightPosition at;
    flight_record_position(record, &at);
    memset(out, 0, sizeof *out); /* it travels, so no byte is left to chance */
    out->step = at.step;
    out->begun = at.begun;
    out->oldest = at.oldest;
    snprintf(out->activity, sizeof out->activity, "%s", at.activity);
    if (!at.what.kind) return;
    const char *const kind = at.what.kind, *const unit = at.what.unit;
    if (unit)
        snprintf(out->collective, sizeof out->collective, "%s of %lld %s", kind, (long long)at.what.count, unit);
    else
        snprintf(out->collective, sizeof out->collective, "%s", kind);
}

/* ---- what was received ---- */

/* Ends the text within its bounds, and keeps from it what a terminal would obey. */
static void check_text(char *text, size_t capacity)
{
    text[capacity - 1] = '\0';
    for (unsigned char *c = (unsigned char *)text; *c; c++)
        if (*c < 0x20 || *c == 0x7f) *c = *c == '\n' ? ' ' : '?';
}

bool watch_position_check(WatchPosition *p)
{
    check_text(p->activity, sizeof p->activity);
    check_text(p->collective, sizeof p->collective);
    return p->step >= -1 && p->begun >= -1 && p->oldest >= -1 && p->oldest <= p->begun && isfinite(p->waited) &&
           p->waited >= 0;
}

bool watch_verdict_check(WatchVerdict *v, int world)
{
    check_text(v->host, sizeof v->host);
    check_text(v->awaited, sizeof v->awaited);
    check_text(v->message, sizeof v->message);
    return v->status >= 0 && v->status < STATUS_COUNT && v->reason >= 0 && v->reason < WATCH_REASONS && v->rank >= 0 &&
           v->rank < world && v->code > 0 && v->code < 256 && v->collective >= -1 && isfinite(v->seconds) &&
           v->seconds >= 0 && watch_position_check(&v->position);
}

/* ---- deciding ---- */

static double patience(double stall_seconds, const WatchPosition *position)
{
    return stall_seconds + (position->step < 0 ? WATCH_OPENING_SECONDS : 0);
}

static bool name(WatchReason reason, int rank, const WatchPosition *position, double seconds, WatchVerdict *out)
{
    memset(out, 0, sizeof *out);
    out->reason = (int32_t)reason;
    out->rank = rank;
    out->seconds = seconds;
    out->collective = -1;
    out->position = *position;
    return true;
}

bool watch_judge(const WatchPosition *positions, int world, double stall_seconds, double still, WatchVerdict *out)
{
    int waiter = -1, last = 0;
    for (int r = 0; r < world; r++) {
        const WatchPosition *p = &positions[r];
        if (p->begun < 0) return false;
        if (p->begun < positions[last].begun) last = r;
        if (p->oldest >= 0 && (waiter < 0 || p->waited > positions[waiter].waited)) waiter = r;
    }
    if (waiter >= 0 && positions[waiter].waited >= patience(stall_seconds, &positions[last])) {
        const WatchPosition *waits = &positions[waiter];
        const bool behind = positions[last].begun <= waits->oldest;
        const int named = behind ? last : waiter;
        name(behind ? WATCH_BEHIND : WATCH_HANGS, named, &positions[named], waits->waited, out);
        out->collective = waits->oldest;
        memcpy(out->awaited, waits->collective, sizeof out->awaited);
        return true;
    }
    if (still < patience(stall_seconds, &positions[last])) return false;
    return name(WATCH_STUCK, last, &positions[last], still, out);
}

/* ---- saying it ---- */

/* "at step 12 (computing), in collective 344, sum of 65536 floats" */
static void describe(const WatchPosition *p, char *out, size_t capacity)
{
    char where[80], done[160];
    if (p->step < 0)
        snprintf(where, sizeof where, "%s", p->activity[0] ? p->activity : "before the first step");
    else
        snprintf(where, sizeof where, "at step %lld (%s)", (long long)p->step, p->activity);
    if (p->begun < 1)
        snprintf(done, sizeof done, "before the first collective");
    else
        snprintf(done, sizeof done, "%s collective %lld, %s", p->oldest >= 0 ? "in" : "after",
                 (long long)(p->oldest >= 0 ? p->oldest : p->begun - 1), p->collective);
    snprintf(out, capacity, "%s, %s", where, done);
}

/* What is wrong in the command, the config or between the ranks is said by the message; where the rank was is no clue,
 * and it is one of many that could have been named. */
static bool says_all(const WatchVerdict *v)
{
    return v->reason == WATCH_FAILED &&
           (v->status == ERR_USAGE || v->status == ERR_CONFIG || v->status == ERR_MISMATCH);
}

void watch_verdict_text(const WatchVerdict *v, const WatchPosition *own, char out[WATCH_TEXT_MAX])
{
    char theirs[256], ours[256], why[1400];
    describe(&v->position, theirs, sizeof theirs);
    describe(own, ours, sizeof ours);
    switch ((WatchReason)v->reason) {
    case WATCH_DIED:
        snprintf(why, sizeof why, "has died: its connection closed, %.1f s after it was last heard of", v->seconds);
        break;
    case WATCH_SILENT:
        snprintf(why, sizeof why,
                 "has not been heard of for %.1f s: it is stopped, or its machine or the network to it is gone",
                 v->seconds);
        break;
    case WATCH_BEHIND:
        snprintf(why, sizeof why, "lives but falls behind: others have waited for it for %.1f s in collective %lld, %s",
                 v->seconds, (long long)v->collective, v->awaited);
        break;
    case WATCH_HANGS:
        snprintf(why, sizeof why,
                 "waits longest, for %.1f s, in collective %lld, %s, which all ranks have begun: the network between "
                 "them hangs",
                 v->seconds, (long long)v->collective, v->awaited);
        break;
    case WATCH_STUCK:
        snprintf(why, sizeof why, "has come least far, and no rank has come further for %.1f s", v->seconds);
        break;
    case WATCH_FAILED:
    case WATCH_REASONS:
        snprintf(why, sizeof why, "has failed: %s", v->message);
        break;
    }
    if (says_all(v))
        snprintf(out, WATCH_TEXT_MAX, "rank %d on %s %s", v->rank, v->host, why);
    else
        snprintf(out, WATCH_TEXT_MAX, "rank %d on %s %s; it was %s; this rank is %s", v->rank, v->host, why, theirs,
                 ours);
}
