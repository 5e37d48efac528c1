/* What the MPI thread runs.
 *
 * Each collective is first checked: kind, count and detail go round in a small all-gather, so that ranks which have
 * lost step learn it before any data moves. Then its data moves in pieces of a few MB (comm_piece.h) through a ring of
 * buffers that are allocated once; pieces of one collective and of the next overlap.
 *
 * Order: nonblocking collectives match by the order of calls on a communicator. Checks have one of their own, exchanges
 * and gathers theirs, and on each the calls follow the order of requests and pieces. */
#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "engine/comm_internal.h"
#include "engine/comm_piece.h"

#define PIECES 8
#define PIECE_ELEMENTS (128 * 1024) /* floats of a piece, over all ranks */
#define SLICE_GOOD (16 * 1024)
#define PIECE_MOST (4 * 1024 * 1024) /* floats of a piece on hundreds of ranks */
#define SLICE_MIN (2 * 1024)
#define SLICE_ALIGN 16

typedef struct Header {
    int64_t kind, count, detail;
} Header;

struct CommPipeline {
    MPI_Comm check_comm;
    PieceWorld world;
    CommRequest *oldest, **newest; /* pushed and not popped yet */
    CommRequest *unchecked;        /* the first whose header is not compared yet */
    CommRequest *feeding;          /* the first that has data left to start */
    int64_t fed;                   /* elements of it already started */
    bool checking;
    MPI_Request check;
    Header header, *headers; /* headers: (ranks) */
    Piece pieces[PIECES];
    int64_t first, end;            /* ring: pieces [first, end) are under way */
    int64_t continued[PIECE_DONE]; /* per stage: the pieces before have begun it, or do without */
    StatusRecord failure;
    bool stuck; /* an MPI call failed: nothing under way will end */
};

static int64_t min64(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static Piece *piece_at(CommPipeline *pipeline, int64_t position)
{
    return &pipeline->pieces[position % PIECES];
}

/* Floats of the largest slice of one rank: smaller messages waste time, but thousands of ranks want a buffer for each.
 */
static int64_t slice_of(int world)
{
    int64_t slice = (PIECE_ELEMENTS / world + SLICE_ALIGN - 1) / SLICE_ALIGN * SLICE_ALIGN;
    if (slice < SLICE_GOOD) slice = min64(PIECE_MOST / world / SLICE_ALIGN * SLICE_ALIGN, SLICE_GOOD);
    return slice > SLICE_MIN ? slice : SLICE_MIN;
}

int64_t comm_buffer_bytes(int world, CommWire wire)
{
    if (world < 2) return 0; /* no MPI, no pipeline */
    return PIECES * piece_bytes(world, slice_of(world), wire == COMM_WIRE_BF16);
}

static Status open_ranks(MPI_Comm from, PieceRanks *ranks)
{
    Status status = STATUS_OK;
    TRY_MPI(MPI_Comm_rank(from, &ranks->rank));
    TRY_MPI(MPI_Comm_size(from, &ranks->count));
    TRY_MPI(MPI_Comm_dup(from, &ranks->exchange));
    TRY_MPI(MPI_Comm_dup(from, &ranks->gather));
fail:
    return status;
}

static void close_comm(MPI_Comm *comm)
{
    if (*comm != MPI_COMM_NULL) MPI_Comm_free(comm);
    *comm = MPI_COMM_NULL;
}

static void close_ranks(PieceRanks *ranks)
{
    close_comm(&ranks->exchange);
    close_comm(&ranks->gather);
}

/* One group of all ranks: the same communicators. */
static void join_groups(PieceWorld *world)
{
    if (world->group.exchange != world->all.exchange) {
        close_ranks(&world->group);
        close_ranks(&world->outer);
    }
    world->group = world->all;
    world->outer = (PieceRanks){.rank = 0, .count = 1, .exchange = MPI_COMM_NULL, .gather = MPI_COMM_NULL};
}

/* Collective. */
static Status split_groups(PieceWorld *world, int size)
{
    Status status = STATUS_OK;
    MPI_Comm group = MPI_COMM_NULL, outer = MPI_COMM_NULL;
    join_groups(world);
    if (size == world->all.count) return STATUS_OK;
    world->group = world->outer = (PieceRanks){.exchange = MPI_COMM_NULL, .gather = MPI_COMM_NULL};
    TRY_MPI(MPI_Comm_split(world->all.exchange, world->all.rank / size, world->all.rank, &group));
    TRY_MPI(MPI_Comm_split(world->all.exchange, world->all.rank % size, world->all.rank, &outer));
    TRY(open_ranks(group, &world->group));
    TRY(open_ranks(outer, &world->outer));
fail:
    close_comm(&group);
    close_comm(&outer);
    return status;
}

Status comm_pipeline_create(CommWorld *world, CommPipeline **out)
{
    Status status = STATUS_OK;
    MPI_Comm local = MPI_COMM_NULL;
    *out = NULL;
    CommPipeline *pipeline = mem_alloc_array(1, sizeof(*pipeline));
    if (!pipeline) return status_fail(ERR_MEMORY, __FILE__, __LINE__, "no memory for the collectives");
    PieceWorld *w = &pipeline->world;
    pipeline->check_comm = MPI_COMM_NULL;
    w->all.exchange = w->all.gather = w->group.exchange = w->group.gather = MPI_COMM_NULL;
    w->outer.exchange = w->outer.gather = MPI_COMM_NULL;
    pipeline->newest = &pipeline->oldest;
    TRY_MPI(MPI_Comm_rank(MPI_COMM_WORLD, &world->rank));
    TRY_MPI(MPI_Comm_size(MPI_COMM_WORLD, &world->world));
    TRY_MPI(MPI_Comm_split_type(MPI_COMM_WORLD, MPI_COMM_TYPE_SHARED, world->rank, MPI_INFO_NULL, &local));
    TRY_MPI(MPI_Comm_rank(local, &world->local_rank));
    TRY_MPI(MPI_Comm_size(local, &world->local_world));
    TRY_MPI(MPI_Comm_free(&local));
    TRY_MPI(MPI_Comm_dup(MPI_COMM_WORLD, &pipeline->check_comm));
    TRY(open_ranks(MPI_COMM_WORLD, &w->all));
    w->group = w->all;
    join_groups(w);

    const size_t ranks = (size_t)w->all.count;
    if (ranks > (1 << 30) / SLICE_MIN) FAIL(ERR_LIMIT, "%zu ranks; at most %d", ranks, (1 << 30) / SLICE_MIN);
    w->slice = slice_of(w->all.count);
    pipeline->headers = mem_alloc_array(ranks, sizeof(Header));
    if (!pipeline->headers) FAIL(ERR_MEMORY, "no memory for the collectives of %zu ranks", ranks);
    for (int i = 0; i < PIECES; i++) TRY(piece_create(&pipeline->pieces[i], w->all.count, w->slice));
    *out = pipeline;
    return STATUS_OK;
fail:
    comm_pipeline_free(pipeline);
    return status;
}

void comm_pipeline_free(CommPipeline *pipeline)
{
    if (!pipeline) return;
    join_groups(&pipeline->world);
    close_ranks(&pipeline->world.all);
    close_comm(&pipeline->check_comm);
    for (int i = 0; i < PIECES; i++) piece_destroy(&pipeline->pieces[i]);
    free(pipeline->headers);
    free(pipeline);
}

void comm_pipeline_push(CommPipeline *pipeline, CommRequest *request)
{
    request->next = NULL;
    *pipeline->newest = request;
    pipeline->newest = &request->next;
    if (!pipeline->unchecked) pipeline->unchecked = request;
    if (!pipeline->feeding) pipeline->feeding = request;
}

bool comm_pipeline_is_idle(const CommPipeline *pipeline)
{
    return !pipeline->oldest;
}

const StatusRecord *comm_pipeline_failure(const CommPipeline *pipeline)
{
    return &pipeline->failure;
}

static void describe(const Header *header, char *out, size_t capacity)
{
    static const char *const reductions[] = {"sums", "takes the minimum of", "takes the maximum of"};
    long long count = (long long)header->count;
    switch ((CommKind)header->kind) {
    case COMM_KIND_ALL_REDUCE:
        snprintf(out, capacity, "sums %lld floats", count);
        break;
    case COMM_KIND_REDUCE:
        snprintf(out, capacity, "sums %lld %s%s", count,
                 header->detail & COMM_REDUCE_BF16 ? "floats as bf16" : "floats",
                 header->detail & COMM_REDUCE_GATHER ? "" : ", a share each");
        break;
    case COMM_KIND_GATHER:
        snprintf(out, capacity, "gathers shares of %lld floats", count);
        break;
    case COMM_KIND_SET_GROUP:
        snprintf(out, capacity, "makes groups of %lld ranks", count);
        break;
    case COMM_KIND_ALL_REDUCE_F64:
        snprintf(out, capacity, "%s %lld doubles", reductions[header->detail], count);
        break;
    case COMM_KIND_BROADCAST:
        snprintf(out, capacity, "broadcasts %lld bytes from rank %lld", count, (long long)header->detail);
        break;
    case COMM_KIND_ALL_GATHER:
        snprintf(out, capacity, "gathers %lld bytes a rank", count);
        break;
    case COMM_KIND_BARRIER:
        snprintf(out, capacity, "is at a barrier");
        break;
    case COMM_KIND_CLOSE:
        snprintf(out, capacity, "has finished");
        break;
    }
}

static bool header_equal(const Header *a, const Header *b)
{
    return a->kind == b->kind && a->count == b->count && a->detail == b->detail;
}

/* ERR_MISMATCH with one clause for each thing that ranks do, and the ranks that do it. */
static Status compare_headers(const CommPipeline *pipeline)
{
    char text[1024];
    size_t used = 0;
    int clauses = 0;
    for (int r = 0; r < pipeline->world.all.count && clauses < 4; r++) {
        bool seen = false;
        for (int q = 0; q < r && !seen; q++) seen = header_equal(&pipeline->headers[q], &pipeline->headers[r]);
        if (seen) continue;
        char what[96], who[160];
        size_t named = (size_t)snprintf(who, sizeof(who), "rank %d", r);
        for (int q = r + 1; q < pipeline->world.all.count; q++) {
            if (!header_equal(&pipeline->headers[q], &pipeline->headers[r])) continue;
            if (named > sizeof(who) - 32) {
                snprintf(who + named, sizeof(who) - named, ", ...");
                break;
            }
            named += (size_t)snprintf(who + named, sizeof(who) - named, ", %d", q);
        }
        describe(&pipeline->headers[r], what, sizeof(what));
        used += (size_t)snprintf(text + used, sizeof(text) - used, "%s%s %s", clauses ? "; " : "", who, what);
        clauses++;
    }
    if (clauses < 2) return STATUS_OK;
    return status_fail(ERR_MISMATCH, __FILE__, __LINE__,
                       "ranks have lost step at collective %lld: %s; start every rank with the same program, config "
                       "and files",
                       (long long)pipeline->unchecked->number, text);
}

static Status step_check(CommPipeline *pipeline, bool *moved)
{
    Status status = STATUS_OK;
    if (pipeline->checking) {
        int complete = 0;
        TRY_MPI(MPI_Test(&pipeline->check, &complete, MPI_STATUS_IGNORE));
        if (!complete) return STATUS_OK;
        pipeline->checking = false;
        *moved = true;
        TRY(compare_headers(pipeline));
        pipeline->unchecked = pipeline->unchecked->next;
    }
    if (pipeline->unchecked) {
        const CommRequest *request = pipeline->unchecked;
        pipeline->header = (Header){request->kind, request->count, request->detail};
        TRY_MPI(MPI_Iallgather(&pipeline->header, (int)sizeof(Header), MPI_BYTE, pipeline->headers, (int)sizeof(Header),
                               MPI_BYTE, pipeline->check_comm, &pipeline->check));
        pipeline->checking = true;
        *moved = true;
    }
    return STATUS_OK;
fail:
    return status;
}

void comm_pipeline_stop(CommPipeline *pipeline)
{
    if (pipeline->failure.status == STATUS_OK) {
        (void)status_fail(ERR_COMM, __FILE__, __LINE__, "collectives were stopped");
        status_save(ERR_COMM, &pipeline->failure);
    }
    pipeline->stuck = true;
}

/* Starts the next piece of the request that is being fed, if it has been checked and the ring has room. */
static Status step_feed(CommPipeline *pipeline, bool *moved)
{
    Status status = STATUS_OK;
    while (pipeline->feeding && pipeline->feeding != pipeline->unchecked && pipeline->end - pipeline->first < PIECES) {
        CommRequest *request = pipeline->feeding;
        const int64_t elements = piece_elements(&pipeline->world, request);
        if (request->kind == COMM_KIND_SET_GROUP) {
            if (pipeline->end > pipeline->first) return STATUS_OK; /* what is under way uses the groups so far */
            TRY(split_groups(&pipeline->world, (int)request->count));
        }
        Piece *piece = piece_at(pipeline, pipeline->end);
        piece->request = request;
        piece->start = pipeline->fed;
        piece->count = min64(piece_capacity(&pipeline->world, request), elements - pipeline->fed);
        piece->last = pipeline->fed + piece->count == elements;
        TRY(piece_begin(&pipeline->world, piece));
        pipeline->end++;
        pipeline->fed += piece->count;
        if (piece->last) {
            pipeline->feeding = request->next;
            pipeline->fed = 0;
        }
        *moved = true;
    }
    return STATUS_OK;
fail:
    return status;
}

/* Begins `stage` of the pieces that wait for it, as far as those before them have. */
static Status step_stage(CommPipeline *pipeline, PieceStage stage, bool *moved)
{
    Status status = STATUS_OK;
    int64_t *at = &pipeline->continued[stage];
    if (*at < pipeline->first) *at = pipeline->first;
    for (; *at < pipeline->end; (*at)++) {
        Piece *piece = piece_at(pipeline, *at);
        if (!piece_needs(&pipeline->world, piece, stage)) continue;
        if (piece->stage < stage) break;
        TRY(piece_continue(&pipeline->world, piece));
        *moved = true;
    }
fail:
    return status;
}

static Status step_pieces(CommPipeline *pipeline, bool *moved)
{
    Status status = STATUS_OK;
    for (int64_t at = pipeline->first; at < pipeline->end; at++)
        TRY(piece_test(&pipeline->world, piece_at(pipeline, at), moved));
    TRY(step_stage(pipeline, PIECE_OUTER, moved));
    TRY(step_stage(pipeline, PIECE_SPREAD, moved));
    TRY(step_stage(pipeline, PIECE_GATHER, moved));
fail:
    return status;
}

void comm_pipeline_step(CommPipeline *pipeline, bool *moved)
{
    Status status = STATUS_OK;
    *moved = false;
    if (pipeline->stuck) return;
    /* After a mismatch what was agreed before goes on to its end. */
    bool mismatch = pipeline->failure.status != STATUS_OK;
    if (!mismatch) status = step_check(pipeline, moved);
    if (status == STATUS_OK || status == ERR_MISMATCH) {
        if (status != STATUS_OK) status_save(status, &pipeline->failure);
        status = step_feed(pipeline, moved);
        if (status == STATUS_OK) status = step_pieces(pipeline, moved);
    }
    if (status != STATUS_OK) {
        status_save(status, &pipeline->failure);
        pipeline->stuck = true;
    }
} /* NOLINT(clang-analyzer-optin.mpi.MPI-Checker): step_check and step_pieces test until complete */

CommRequest *comm_pipeline_pop(CommPipeline *pipeline, bool *failed)
{
    CommRequest *request = pipeline->oldest;
    *failed = false;
    if (!request) return NULL;
    bool finished = false;
    while (!finished && pipeline->first < pipeline->end && piece_at(pipeline, pipeline->first)->stage == PIECE_DONE) {
        finished = piece_at(pipeline, pipeline->first)->last;
        pipeline->first++;
    }
    if (!finished) {
        bool refused = pipeline->failure.status != STATUS_OK && request == pipeline->unchecked;
        if (!pipeline->stuck && !refused) return NULL;
        *failed = true;
        if (pipeline->unchecked == request) pipeline->unchecked = request->next;
        if (pipeline->feeding == request) pipeline->feeding = request->next;
    }
    pipeline->oldest = request->next;
    if (!pipeline->oldest) pipeline->newest = &pipeline->oldest;
    return request;
}
