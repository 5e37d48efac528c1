#include "train/consistency.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/file.h"
#include "base/log.h"
#include "engine/param_image.h"
#include "engine/weight_hash.h"

enum { HOST_MAX = 64, RANKS_NAMED = 4 };

typedef enum Array { ARRAY_WEIGHTS, ARRAY_EMA, ARRAY_M, ARRAY_V, ARRAY_COUNT } Array;
static const char *const ARRAY_WORDS[] = {"weights", "moving average", "first moments", "second moments"};

/* What a rank tells the others: a hash of each array. */
typedef struct Hashes {
    uint64_t of[ARRAY_COUNT];
} Hashes;

struct Consistency {
    ConsistencyOptions options;
    int world;
    Hashes *all;      /* (world) */
    uint64_t *device; /* (ARRAY_COUNT), of the device's memory; NULL: the host computes */
    int64_t compared_step, checks;
};

Status consistency_create(const ConsistencyOptions *options, Consistency **out)
{
    Status status = STATUS_OK;
    Consistency *c = mem_alloc_array(1, sizeof *c);
    *out = NULL;
    if (!c) return status_fail(ERR_MEMORY, __FILE__, __LINE__, "out of memory");
    c->options = *options;
    c->world = comm_world(options->comm);
    c->compared_step = -1;
    c->all = mem_alloc_array((size_t)c->world, sizeof *c->all);
    if (!c->all) FAIL(ERR_MEMORY, "no memory for the hashes of %d ranks", c->world);
    if (options->backend->device) {
        c->device = options->backend->alloc(options->backend, ARRAY_COUNT * sizeof *c->device);
        if (!c->device) FAIL(ERR_MEMORY, "no device memory for %d hashes", ARRAY_COUNT);
    }
    *out = c;
    return STATUS_OK;
fail:
    consistency_free(c);
    return status;
}

void consistency_free(Consistency *c)
{
    if (!c) return;
    if (c->device) c->options.backend->free(c->options.backend, c->device);
    free(c->all);
    free(c);
}

int64_t consistency_checks(const Consistency *c)
{
    return c->checks;
}

/* ---- hashes of this rank ---- */

/* Ranks that hold the same of an array: all; or of what the optimizer has divided, those that own the same share. */
static int twin_of(const Consistency *c, Array array, int rank)
{
    return array != ARRAY_WEIGHTS && exchange_is_sharded(c->options.exchange) ? rank % comm_group(c->options.comm) : 0;
}

/* What there is of an array on this rank, where it computes; NULL: none, or no other rank has the same. */
static const float *array_of(const Consistency *c, Array array, int64_t *count)
{
    const ConsistencyOptions *o = &c->options;
    *count =
        array == ARRAY_WEIGHTS ? param_table_trainable_elements(o->store->table) : exchange_local_elements(o->exchange);
    if (array == ARRAY_WEIGHTS) return o->store->image ? o->store->image->weights : o->store->weights;
    if (exchange_is_sharded(o->exchange) && comm_group(o->comm) == c->world) return NULL;
    return array == ARRAY_EMA ? optimizer_ema(o->optimizer)
           : array == ARRAY_M ? optimizer_m(o->optimizer)
                              : optimizer_v(o->optimizer);
}

/* `out` is where the backend computes; on a device it is there once that has finished. */
static Status hash_words(const Consistency *c, const float *values, int64_t count, uint64_t first, uint64_t *out)
{
    Backend *backend = c->options.backend;
    const uint32_t *words = (const uint32_t *)(const void *)values;
    if (backend->device) return backend->device->hash(backend, words, count, first, out);
    *out = weight_hash(words, count, first, backend->threads);
    return STATUS_OK;
}

static Status hash_arrays(Consistency *c, Hashes *out)
{
    Status status = STATUS_OK;
    Backend *backend = c->options.backend;
    memset(out, 0, sizeof *out);
    bool have[ARRAY_COUNT];
    for (int a = 0; a < ARRAY_COUNT; a++) {
        int64_t count;
        const float *values = array_of(c, (Array)a, &count);
        have[a] = values != NULL;
        if (values) TRY(hash_words(c, values, count, 0, c->device ? &c->device[a] : &out->of[a]));
    }
    if (!c->device) return STATUS_OK;
    TRY(backend->device->finish(backend));
    TRY(backend->download(backend, out->of, c->device, sizeof out->of));
    for (int a = 0; a < ARRAY_COUNT; a++)
        if (!have[a]) out->of[a] = 0;
fail:
    return status;
}

/* ---- who differs ---- */

static bool same_all(const Consistency *c)
{
    for (int a = 0; a < ARRAY_COUNT; a++)
        for (int r = 0; r < c->world; r++)
            if (c->all[r].of[a] != c->all[twin_of(c, (Array)a, r)].of[a]) return false; /* ranks come first that own */
    return true;
}

/* Of the ranks with this one's part of an array, how many have its hash, of how many. */
static int agreeing(const Consistency *c, Array array, int rank, int *of)
{
    int same = 0;
    *of = 0;
    for (int r = 0; r < c->world; r++) {
        if (twin_of(c, array, r) != twin_of(c, array, rank)) continue;
        *of += 1;
        same += c->all[r].of[array] == c->all[rank].of[array];
    }
    return same;
}

typedef struct Verdict {
    Array array; /* that differs, and of those the one that leaves the fewest suspects */
    bool differs[ARRAY_COUNT];
    bool majority; /* else all that hold the same part are suspects */
    int reference; /* a rank to compare with: the first of the majority, or of all suspects */
    int holders;   /* ranks that hold the part in question */
    int *suspects; /* (world) */
    int suspect_count;
    int64_t *indices; /* (world) of the first parameter that differs from the reference's; -1: none */
    char (*hosts)[HOST_MAX];
} Verdict;

/* About one array, of which the ranks that hold what `odd` holds do not have the same. */
static void judge_array(const Consistency *c, Array array, int odd, Verdict *v)
{
    const int twin = twin_of(c, array, odd);
    v->array = array;
    v->majority = false;
    v->reference = odd;
    v->suspect_count = 0;
    for (int r = c->world - 1; r >= 0; r--) {
        if (twin_of(c, array, r) != twin || 2 * agreeing(c, array, r, &v->holders) <= v->holders) continue;
        v->majority = true;
        v->reference = r;
    }
    for (int r = 0; r < c->world; r++) {
        bool other = c->all[r].of[array] != c->all[v->reference].of[array];
        if (twin_of(c, array, r) == twin && (other || !v->majority)) v->suspects[v->suspect_count++] = r;
    }
    (void)agreeing(c, array, odd, &v->holders);
}

/* The first rank whose part of the array another one does not have the same; -1: there is none. */
static int find_odd(const Consistency *c, Array array)
{
    int of;
    for (int r = 0; r < c->world; r++)
        if (agreeing(c, array, r, &of) < of) return r;
    return -1;
}

/* The same on every rank, from the same hashes. A fault in the moments of one rank comes into the weights of its whole
 * group where the optimizer is divided in groups; of the moments the suspects are fewer. */
static void judge(const Consistency *c, Verdict *v)
{
    int best = -1, fewest = 0;
    for (int a = 0; a < ARRAY_COUNT; a++) {
        const int odd = find_odd(c, (Array)a);
        v->differs[a] = odd >= 0;
        if (odd < 0) continue;
        judge_array(c, (Array)a, odd, v);
        if (best >= 0 && v->suspect_count >= fewest) continue;
        best = a;
        fewest = v->suspect_count;
    }
    if (best >= 0) judge_array(c, (Array)best, find_odd(c, (Array)best), v);
}

/* ---- which parameter ---- */

/* What of a parameter lies in one span of this rank's buffer. */
typedef struct Piece {
    int32_t param;
    int64_t local, count;
} Piece;

static Status list_pieces(const Consistency *c, Array array, Piece **out, int32_t *count)
{
    Status status = STATUS_OK;
    const ParamTable *table = c->options.store->table;
    const UpdateSpan whole = {0, 0, param_table_trainable_elements(table)}, *spans = &whole;
    size_t capacity = 0;
    int32_t span_count = 1;
    *out = NULL;
    *count = 0;
    if (array != ARRAY_WEIGHTS) span_count = exchange_spans(c->options.exchange, &spans);
    for (int32_t p = 0; p < param_table_size(table); p++) {
        const Param *param = param_table_get(table, p);
        for (int32_t s = 0; param->trainable && s < span_count; s++) {
            const int64_t end = spans[s].flat + spans[s].count, param_end = param->offset + param->count;
            const int64_t from = param->offset > spans[s].flat ? param->offset : spans[s].flat;
            const int64_t to = param_end < end ? param_end : end;
            if (from >= to) continue;
            TRY(mem_grow(out, &capacity, (size_t)*count + 1, sizeof **out));
            (*out)[(*count)++] = (Piece){p, spans[s].local + from - spans[s].flat, to - from};
        }
    }
fail:
    return status;
}

/* The hashes of all pieces, in the host's memory. */
static Status hash_pieces(const Consistency *c, Array array, const Piece *pieces, int32_t count, uint64_t *out)
{
    Status status = STATUS_OK;
    Backend *backend = c->options.backend;
    const size_t bytes = (size_t)count * sizeof *out;
    uint64_t *device = NULL;
    int64_t elements;
    const float *values = array_of(c, array, &elements);
    if (count == 0 || !values) return STATUS_OK;
    if (backend->device) {
        device = backend->alloc(backend, bytes);
        if (!device) FAIL(ERR_MEMORY, "no device memory for %d hashes", count);
    }
    for (int32_t i = 0; i < count; i++)
        TRY(hash_words(c, values + pieces[i].local, pieces[i].count, (uint64_t)pieces[i].local,
                       device ? &device[i] : &out[i]));
    if (device) {
        TRY(backend->device->finish(backend));
        TRY(backend->download(backend, out, device, bytes));
    }
fail:
    if (device) backend->free(backend, device);
    return status;
}

/* The reference rank tells its hash of every piece; who holds the same part looks for the first of its own that is
 * another. */
static Status find_parameters(const Consistency *c, Verdict *v)
{
    Status status = STATUS_OK;
    const int rank = comm_rank(c->options.comm);
    const bool holds = twin_of(c, v->array, rank) == twin_of(c, v->array, v->reference);
    Piece *pieces = NULL;
    uint64_t *own = NULL, *theirs = NULL;
    int32_t count = 0;
    int64_t theirs_count = 0, index = -1;
    TRY(list_pieces(c, v->array, &pieces, &count));
    if (rank == v->reference) theirs_count = count;
    TRY(comm_broadcast(c->options.comm, &theirs_count, sizeof theirs_count, v->reference));
    if (theirs_count < 0 || theirs_count > INT32_MAX || (holds && theirs_count != count))
        FAIL(ERR_INTERNAL, "rank %d has %lld pieces of parameters, rank %d has %d", v->reference,
             (long long)theirs_count, rank, count);
    own = mem_alloc_array((size_t)count + 1, sizeof *own);
    theirs = mem_alloc_array((size_t)theirs_count + 1, sizeof *theirs);
    if (!own || !theirs) FAIL(ERR_MEMORY, "out of memory");
    TRY(hash_pieces(c, v->array, pieces, count, own));
    if (rank == v->reference) memcpy(theirs, own, (size_t)count * sizeof *own);
    TRY(comm_broadcast(c->options.comm, theirs, (size_t)theirs_count * sizeof *theirs, v->reference));
    for (int32_t i = count - 1; i >= 0 && holds; i--)
        if (own[i] != theirs[i]) index = pieces[i].param;
    TRY(comm_all_gather(c->options.comm, &index, sizeof index, v->indices));
fail:
    free(pieces);
    free(own);
    free(theirs);
    return status;
}

/* ---- words ---- */

static Status append_ranks(const Verdict *v, StrBuf *out)
{
    Status status = STATUS_OK;
    const int shown = v->suspect_count < RANKS_NAMED ? v->suspect_count : RANKS_NAMED;
    for (int i = 0; i < shown; i++) {
        const char *joint = i == 0 ? "" : i + 1 == shown && shown == v->suspect_count ? " and " : ", ";
        TRY(strbuf_printf(out, "%srank %d on %s", joint, v->suspects[i], v->hosts[v->suspects[i]]));
    }
    if (shown < v->suspect_count) TRY(strbuf_printf(out, " and %d more", v->suspect_count - shown));
fail:
    return status;
}

static Status append_parameter(const Consistency *c, const Verdict *v, StrBuf *out)
{
    Status status = STATUS_OK;
    const ParamTable *table = c->options.store->table;
    int64_t index = -1;
    for (int i = 0; i < v->suspect_count && index < 0; i++) index = v->indices[v->suspects[i]];
    if (index < 0 || index >= param_table_size(table)) {
        TRY(strbuf_printf(out, ", in no parameter but in what is between them"));
    } else {
        TRY(strbuf_printf(out, ", first in %s", param_table_get(table, (int32_t)index)->name));
    }
    for (int a = 0, said = 0; a < ARRAY_COUNT; a++)
        if (v->differs[a] && a != (int)v->array)
            TRY(strbuf_printf(out, "%s%s", said++ ? ", " : "; also: ", ARRAY_WORDS[a]));
fail:
    return status;
}

static Status append_remedy(const Verdict *v, int64_t saved_step, bool trained, StrBuf *out)
{
    Status status = STATUS_OK;
    if (!trained) {
        TRY(strbuf_printf(out,
                          "No step was made yet: the file that they were read from (init.from, or the checkpoint) is "
                          "not the same on every machine, or was damaged on its way; copy it anew."));
        return STATUS_OK;
    }
    TRY(strbuf_printf(out,
                      "The ranks compute all of it from the same numbers, so this is a fault of a machine: memory, "
                      "processor or network. "));
    if (v->majority)
        TRY(strbuf_printf(out, "Leave %s out of the job and test it. ", v->hosts[v->suspects[0]]));
    else
        TRY(strbuf_printf(out, "Which of them is right cannot be told; test their machines. "));
    if (saved_step >= 0)
        TRY(strbuf_printf(out,
                          "The newest checkpoint, of step %" PRId64 ", was compared before it was saved: go on from "
                          "it with --resume auto.",
                          saved_step));
    else
        TRY(strbuf_printf(out, "No checkpoint is saved yet: begin anew."));
fail:
    return status;
}

/* Always a failure. */
static Status report(const Consistency *c, const Verdict *v, int64_t step, int64_t saved_step)
{
    Status status = STATUS_OK;
    StrBuf text = {0};
    TRY(strbuf_printf(&text, "after step %" PRId64 " ", step));
    TRY(append_ranks(v, &text));
    if (v->majority) {
        TRY(strbuf_printf(&text, v->suspect_count > 1 ? " have" : " has"));
        TRY(strbuf_printf(&text, " %s %s than the other %d ranks", v->array == ARRAY_EMA ? "another" : "other",
                          ARRAY_WORDS[v->array], v->holders - v->suspect_count));
    } else {
        TRY(strbuf_printf(&text, " do not have the same %s", ARRAY_WORDS[v->array]));
    }
    TRY(append_parameter(c, v, &text));
    TRY(strbuf_printf(&text, ". "));
    TRY(append_remedy(v, saved_step, c->checks > 0, &text));
    FAIL(ERR_MISMATCH, "%s", text.data);
fail:
    strbuf_free(&text);
    return status;
}

/* ---- the comparison ---- */

static Status explain(const Consistency *c, int64_t step, int64_t saved_step)
{
    Status status = STATUS_OK;
    Verdict v = {0};
    char host[HOST_MAX] = "";
    v.suspects = mem_alloc_array((size_t)c->world, sizeof *v.suspects);
    v.indices = mem_alloc_array((size_t)c->world, sizeof *v.indices);
    v.hosts = mem_alloc_array((size_t)c->world, sizeof *v.hosts);
    if (!v.suspects || !v.indices || !v.hosts) FAIL(ERR_MEMORY, "out of memory");
    if (gethostname(host, sizeof host - 1) || !host[0]) snprintf(host, sizeof host, "?");
    TRY(comm_all_gather(c->options.comm, host, sizeof host, v.hosts));
    for (int r = 0; r < c->world; r++) v.hosts[r][HOST_MAX - 1] = 0;
    judge(c, &v);
    TRY(find_parameters(c, &v));
    /* Nobody ends the job before all have the words. */
    TRY(comm_barrier(c->options.comm));
    status = report(c, &v, step, saved_step);
fail:
    free(v.suspects);
    free(v.indices);
    free(v.hosts);
    return status;
}

Status consistency_check(Consistency *c, int64_t step, int64_t saved_step)
{
    Status status = STATUS_OK;
    Hashes own;
    if (c->world == 1 || step == c->compared_step) return STATUS_OK;
    const double start = clock_seconds();
    TRY(exchange_refresh_weights(c->options.exchange));
    TRY(hash_arrays(c, &own));
    TRY(comm_all_gather(c->options.comm, &own, sizeof own, c->all));
    if (!same_all(c)) FAIL_WITH(explain(c, step, saved_step));
    c->compared_step = step;
    c->checks++;
    log_debug("step %" PRId64 ": the weights of %d ranks are the same (%.3f s)", step, c->world,
              clock_seconds() - start);
fail:
    return status;
}
