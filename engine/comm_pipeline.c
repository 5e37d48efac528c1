/* What the MPI thread runs.
 *
 * Each collective is first checked: kind, count and detail go round in a small all-gather, so that ranks which have
 * lost step learn it before any data moves. Then its data moves in pieces of a few MB through a ring of buffers that
 * are allocated once; pieces of one collective and of the next overlap.
 *
 * A piece of an all-reduce is a reduce-scatter and an all-gather: rank r receives every rank's r-th slice, adds them in
 * rank order, and sends the sum to all. Each element is added by one rank in a fixed order, so all ranks get the same
 * bits, whatever the sizes, the piece length, or MPI's algorithms. MPI_IN_PLACE is used nowhere; it is slow in Open
 * MPI.
 *
 * Order: nonblocking collectives match by the order of calls on a communicator. Checks, exchanges and gathers each have
 * their own communicator, and on each the calls follow the order of requests and pieces. */
#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "engine/comm_internal.h"

#define PIECES 8
#define PIECE_ELEMENTS (128 * 1024) /* floats of a piece, over all ranks */
#define SLICE_MIN (16 * 1024)       /* floats of one rank's slice; smaller messages waste time on many ranks */
#define SLICE_ALIGN 16
#define BROADCAST_BYTES (4 * 1024 * 1024)

typedef enum Stage {
    STAGE_EXCHANGE, /* waits for `exchange` */
    STAGE_SUMMED,   /* waits for its turn to gather */
    STAGE_GATHER,   /* waits for `gather` */
    STAGE_DONE
} Stage;

typedef struct Piece {
    CommRequest *request;
    int64_t start, count; /* elements of the request's kind */
    bool last;            /* of its request */
    Stage stage;
    MPI_Request exchange, gather;
    float *received;                                                   /* (world, slice) fp32 */
    float *summed;                                                     /* (slice) fp32 */
    int *sizes, *starts, *send_sizes, *receive_sizes, *receive_starts; /* (world) each; MPI reads them till the end */
} Piece;

typedef struct Header {
    int64_t kind, count, detail;
} Header;

struct CommPipeline {
    int rank, world;
    MPI_Comm check_comm, exchange_comm, gather_comm;
    int64_t slice;                 /* floats of the largest slice */
    CommRequest *oldest, **newest; /* pushed and not popped yet */
    CommRequest *unchecked;        /* the first whose header is not compared yet */
    CommRequest *feeding;          /* the first that has data left to start */
    int64_t fed;                   /* elements of it already started */
    bool checking;
    MPI_Request check;
    Header header, *headers; /* headers: (world) */
    int64_t number;          /* collectives checked so far */
    Piece pieces[PIECES];
    int64_t first, gathering,
        end; /* ring: pieces [first, end) are under way, those from `gathering` have not begun it */
    StatusRecord failure;
    bool stuck; /* an MPI call failed: nothing under way will end */
};

#define TRY_MPI(call)                                                                                   \
    do {                                                                                                \
        int mpi_code_ = (call);                                                                         \
        if (mpi_code_ != MPI_SUCCESS) {                                                                 \
            char mpi_text_[MPI_MAX_ERROR_STRING] = "";                                                  \
            int mpi_length_ = 0;                                                                        \
            MPI_Error_string(mpi_code_, mpi_text_, &mpi_length_);                                       \
            FAIL(ERR_COMM, "MPI: %s; see the messages of the other ranks and the launcher", mpi_text_); \
        }                                                                                               \
    } while (0)

static int64_t min64(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static Piece *piece_at(CommPipeline *pipeline, int64_t position)
{
    return &pipeline->pieces[position % PIECES];
}

/* Floats of the largest slice of one rank. */
static int64_t slice_of(int world)
{
    const int64_t slice = (PIECE_ELEMENTS / world + SLICE_ALIGN - 1) / SLICE_ALIGN * SLICE_ALIGN;
    return slice > SLICE_MIN ? slice : SLICE_MIN;
}

int64_t comm_buffer_bytes(int world)
{
    if (world < 2) return 0; /* no MPI, no pipeline */
    return PIECES * (world + 1) * slice_of(world) * (int64_t)sizeof(float);
}

Status comm_pipeline_create(CommWorld *world, CommPipeline **out)
{
    Status status = STATUS_OK;
    MPI_Comm local = MPI_COMM_NULL;
    *out = NULL;
    CommPipeline *pipeline = mem_alloc_array(1, sizeof(*pipeline));
    if (!pipeline) return status_fail(ERR_MEMORY, __FILE__, __LINE__, "no memory for the collectives");
    pipeline->check_comm = pipeline->exchange_comm = pipeline->gather_comm = MPI_COMM_NULL;
    pipeline->newest = &pipeline->oldest;
    TRY_MPI(MPI_Comm_rank(MPI_COMM_WORLD, &world->rank));
    TRY_MPI(MPI_Comm_size(MPI_COMM_WORLD, &world->world));
    TRY_MPI(MPI_Comm_split_type(MPI_COMM_WORLD, MPI_COMM_TYPE_SHARED, world->rank, MPI_INFO_NULL, &local));
    TRY_MPI(MPI_Comm_rank(local, &world->local_rank));
    TRY_MPI(MPI_Comm_size(local, &world->local_world));
    TRY_MPI(MPI_Comm_free(&local));
    pipeline->rank = world->rank;
    pipeline->world = world->world;
    TRY_MPI(MPI_Comm_dup(MPI_COMM_WORLD, &pipeline->check_comm));
    TRY_MPI(MPI_Comm_dup(MPI_COMM_WORLD, &pipeline->exchange_comm));
    TRY_MPI(MPI_Comm_dup(MPI_COMM_WORLD, &pipeline->gather_comm));

    size_t ranks = (size_t)pipeline->world;
    if (ranks > (1 << 30) / SLICE_MIN) FAIL(ERR_LIMIT, "%zu ranks; at most %d", ranks, (1 << 30) / SLICE_MIN);
    pipeline->slice = slice_of(pipeline->world);
    pipeline->headers = mem_alloc_array(ranks, sizeof(Header));
    if (!pipeline->headers) FAIL(ERR_MEMORY, "no memory for the collectives of %zu ranks", ranks);
    for (int i = 0; i < PIECES; i++) {
        Piece *piece = &pipeline->pieces[i];
        piece->received = mem_alloc_aligned(ranks * (size_t)pipeline->slice * sizeof(float));
        piece->summed = mem_alloc_aligned((size_t)pipeline->slice * sizeof(float));
        piece->sizes = mem_alloc_array(5 * ranks, sizeof(int));
        if (!piece->received || !piece->summed || !piece->sizes) {
            FAIL(ERR_MEMORY, "no memory for the buffers of the collectives: %.1f MB",
                 1e-6 * PIECES * sizeof(float) * (double)pipeline->slice * (double)(ranks + 1));
        }
        piece->starts = piece->sizes + ranks;
        piece->send_sizes = piece->starts + ranks;
        piece->receive_sizes = piece->send_sizes + ranks;
        piece->receive_starts = piece->receive_sizes + ranks;
    }
    *out = pipeline;
    return STATUS_OK;
fail:
    comm_pipeline_free(pipeline);
    return status;
}

void comm_pipeline_free(CommPipeline *pipeline)
{
    if (!pipeline) return;
    MPI_Comm *comms[] = {&pipeline->check_comm, &pipeline->exchange_comm, &pipeline->gather_comm};
    for (int i = 0; i < 3; i++) {
        if (*comms[i] != MPI_COMM_NULL) MPI_Comm_free(comms[i]);
    }
    for (int i = 0; i < PIECES; i++) {
        mem_free_aligned(pipeline->pieces[i].received);
        mem_free_aligned(pipeline->pieces[i].summed);
        free(pipeline->pieces[i].sizes);
    }
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
    for (int r = 0; r < pipeline->world && clauses < 4; r++) {
        bool seen = false;
        for (int q = 0; q < r && !seen; q++) seen = header_equal(&pipeline->headers[q], &pipeline->headers[r]);
        if (seen) continue;
        char what[96], who[160];
        size_t named = (size_t)snprintf(who, sizeof(who), "rank %d", r);
        for (int q = r + 1; q < pipeline->world; q++) {
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
                       (long long)pipeline->number, text);
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
        pipeline->number++;
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

/* The most elements of a request that one piece holds. */
static int64_t piece_capacity(const CommPipeline *pipeline, CommKind kind)
{
    int64_t slice_bytes = pipeline->slice * (int64_t)sizeof(float);
    switch (kind) {
    case COMM_KIND_ALL_REDUCE:
        return pipeline->slice * pipeline->world;
    case COMM_KIND_ALL_REDUCE_F64:
        return slice_bytes / (int64_t)sizeof(double);
    case COMM_KIND_ALL_GATHER:
        return slice_bytes;
    case COMM_KIND_BROADCAST:
        return BROADCAST_BYTES;
    default:
        return 1;
    }
}

static Status begin_reduce_scatter(CommPipeline *pipeline, Piece *piece)
{
    Status status = STATUS_OK;
    int world = pipeline->world, rank = pipeline->rank;
    int64_t share = (piece->count + world - 1) / world;
    int64_t slice = (share + SLICE_ALIGN - 1) / SLICE_ALIGN * SLICE_ALIGN;
    for (int r = 0; r < world; r++) {
        int64_t start = min64(r * slice, piece->count);
        piece->starts[r] = (int)start;
        piece->sizes[r] = (int)(min64(start + slice, piece->count) - start);
    }
    for (int r = 0; r < world; r++) {
        /* A rank's own slice stays where it is. */
        piece->send_sizes[r] = r == rank ? 0 : piece->sizes[r];
        piece->receive_sizes[r] = r == rank ? 0 : piece->sizes[rank];
        piece->receive_starts[r] = (int)(r * pipeline->slice);
    }
    const float *data = (const float *)piece->request->input + piece->start;
    TRY_MPI(MPI_Ialltoallv(data, piece->send_sizes, piece->starts, MPI_FLOAT, piece->received, piece->receive_sizes,
                           piece->receive_starts, MPI_FLOAT, pipeline->exchange_comm, &piece->exchange));
    return STATUS_OK;
fail:
    return status;
}

/* Adds the slices in rank order, a few KB at a time so that the partial sums stay in the first cache. */
static void sum_slices(const CommPipeline *pipeline, Piece *piece)
{
    enum { BLOCK = 2048 };
    int rank = pipeline->rank;
    int64_t count = piece->sizes[rank];
    const float *own = (const float *)piece->request->input + piece->start + piece->starts[rank];
    for (int64_t start = 0; start < count; start += BLOCK) {
        int64_t length = min64(BLOCK, count - start);
        float *restrict sum = piece->summed + start;
        for (int r = 0; r < pipeline->world; r++) {
            const float *restrict from = (r == rank ? own : piece->received + r * pipeline->slice) + start;
            if (r == 0) {
                memcpy(sum, from, (size_t)length * sizeof(float));
            } else {
                for (int64_t i = 0; i < length; i++) sum[i] += from[i];
            }
        }
    }
}

static void reduce_doubles(const CommPipeline *pipeline, const Piece *piece)
{
    const double *received = (const double *)(const void *)piece->received; /* (world, count) fp64 */
    double *out = (double *)piece->request->output + piece->start;
    CommReduce how = (CommReduce)piece->request->detail;
    for (int64_t i = 0; i < piece->count; i++) {
        double value = received[i];
        for (int r = 1; r < pipeline->world; r++) {
            double other = received[r * piece->count + i];
            if (how == COMM_SUM) {
                value += other;
            } else if (other != other || (how == COMM_MIN ? other < value : other > value)) {
                value = other; /* NaN wins over numbers, and stays: no comparison with it is true */
            }
        }
        out[i] = value;
    }
}

/* Starts the next piece of the request that is being fed, if it has been checked and the ring has room. */
static Status step_feed(CommPipeline *pipeline, bool *moved)
{
    Status status = STATUS_OK;
    while (pipeline->feeding && pipeline->feeding != pipeline->unchecked && pipeline->end - pipeline->first < PIECES) {
        CommRequest *request = pipeline->feeding;
        Piece *piece = piece_at(pipeline, pipeline->end);
        piece->request = request;
        piece->start = pipeline->fed;
        piece->count = min64(piece_capacity(pipeline, request->kind), request->count - pipeline->fed);
        piece->last = pipeline->fed + piece->count == request->count;
        piece->exchange = piece->gather = MPI_REQUEST_NULL;
        piece->stage = piece->count > 0 ? STAGE_EXCHANGE : STAGE_DONE;
        const char *input = request->input;
        if (piece->count > 0 && request->kind == COMM_KIND_ALL_REDUCE) {
            TRY(begin_reduce_scatter(pipeline, piece));
        } else if (piece->count > 0 && request->kind == COMM_KIND_BROADCAST) {
            TRY_MPI(MPI_Ibcast((char *)request->output + piece->start, (int)piece->count, MPI_BYTE,
                               (int)request->detail, pipeline->exchange_comm, &piece->exchange));
        } else if (piece->count > 0) {
            int64_t size = request->kind == COMM_KIND_ALL_REDUCE_F64 ? (int64_t)sizeof(double) : 1;
            int bytes = (int)(piece->count * size);
            TRY_MPI(MPI_Iallgather(input + piece->start * size, bytes, MPI_BYTE, piece->received, bytes, MPI_BYTE,
                                   pipeline->exchange_comm, &piece->exchange));
        }
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

/* The exchange of a piece has ended: what is left to do with what came. */
static void finish_exchange(CommPipeline *pipeline, Piece *piece)
{
    CommRequest *request = piece->request;
    piece->stage = STAGE_DONE;
    if (request->kind == COMM_KIND_ALL_REDUCE) {
        sum_slices(pipeline, piece);
        piece->stage = STAGE_SUMMED;
    } else if (request->kind == COMM_KIND_ALL_REDUCE_F64) {
        reduce_doubles(pipeline, piece);
    } else if (request->kind == COMM_KIND_ALL_GATHER) {
        const char *received = (const char *)piece->received;
        for (int r = 0; r < pipeline->world; r++) {
            char *out = (char *)request->output + r * request->count + piece->start;
            memcpy(out, received + r * piece->count, (size_t)piece->count);
        }
    }
}

static Status step_pieces(CommPipeline *pipeline, bool *moved)
{
    Status status = STATUS_OK;
    for (int64_t at = pipeline->first; at < pipeline->end; at++) {
        Piece *piece = piece_at(pipeline, at);
        MPI_Request *pending = piece->stage == STAGE_EXCHANGE ? &piece->exchange
                               : piece->stage == STAGE_GATHER ? &piece->gather
                                                              : NULL;
        if (!pending) continue;
        int complete = 0;
        TRY_MPI(MPI_Test(pending, &complete, MPI_STATUS_IGNORE));
        if (!complete) continue;
        *moved = true;
        if (piece->stage == STAGE_EXCHANGE) {
            finish_exchange(pipeline, piece);
        } else {
            piece->stage = STAGE_DONE;
        }
    }
    /* Gathers begin in the order of pieces. */
    for (; pipeline->gathering < pipeline->end; pipeline->gathering++) {
        Piece *piece = piece_at(pipeline, pipeline->gathering);
        if (piece->stage == STAGE_DONE) continue;
        if (piece->stage != STAGE_SUMMED) break;
        float *data = (float *)piece->request->output + piece->start;
        TRY_MPI(MPI_Iallgatherv(piece->summed, piece->sizes[pipeline->rank], MPI_FLOAT, data, piece->sizes,
                                piece->starts, MPI_FLOAT, pipeline->gather_comm, &piece->gather));
        piece->stage = STAGE_GATHER;
        *moved = true;
    }
    return STATUS_OK;
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
    while (!finished && pipeline->first < pipeline->end && piece_at(pipeline, pipeline->first)->stage == STAGE_DONE) {
        finished = piece_at(pipeline, pipeline->first)->last;
        pipeline->first++;
        if (pipeline->gathering < pipeline->first) pipeline->gathering = pipeline->first;
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
