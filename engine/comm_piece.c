#include "engine/comm_piece.h"

#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/bf16.h"

enum { SHARE_ALIGN = 16, BROADCAST_BYTES = 4 * 1024 * 1024 };

Status comm_mpi_error(int code, const char *file, int line)
{
    char text[MPI_MAX_ERROR_STRING] = "";
    int length = 0;
    MPI_Error_string(code, text, &length);
    return status_fail(ERR_COMM, file, line, "MPI: %s; see the messages of the other ranks and the launcher", text);
}

static int64_t min64(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

/* ---- buffers ---- */

Status piece_create(Piece *piece, int ranks, int64_t slice)
{
    const size_t n = (size_t)ranks, floats = (size_t)slice;
    piece->pending = MPI_REQUEST_NULL;
    piece->received = mem_alloc_aligned(n * floats * sizeof(float));
    piece->summed = mem_alloc_aligned(floats * sizeof(float));
    piece->starts = mem_alloc_array(6 * n, sizeof(int));
    if (!piece->received || !piece->summed || !piece->starts)
        return status_fail(ERR_MEMORY, __FILE__, __LINE__,
                           "no memory for the buffers of the collectives: %.1f MB a piece",
                           1e-6 * (double)piece_bytes(ranks, slice, false));
    piece->sizes = piece->starts + n;
    piece->send_sizes = piece->sizes + n;
    piece->receive_sizes = piece->send_sizes + n;
    piece->receive_starts = piece->receive_sizes + n;
    piece->part_starts = piece->receive_starts + n;
    return STATUS_OK;
}

void piece_destroy(Piece *piece)
{
    mem_free_aligned(piece->received);
    mem_free_aligned(piece->summed);
    mem_free_aligned(piece->narrow);
    free(piece->starts);
}

int64_t piece_bytes(int ranks, int64_t slice, bool bf16)
{
    return slice * ((ranks + 1) * (int64_t)sizeof(float) + (bf16 ? ranks * (int64_t)sizeof(uint16_t) : 0));
}

static Status allocate_narrow(const PieceWorld *world, Piece *piece)
{
    Status status = STATUS_OK;
    const size_t count = (size_t)world->all.count * (size_t)world->slice;
    if (piece->narrow) return STATUS_OK;
    piece->narrow = mem_alloc_aligned(count * sizeof *piece->narrow);
    if (!piece->narrow)
        FAIL(ERR_MEMORY, "no memory for gradients as bf16: %.1f MB a piece; parallel.wire: f32 needs none",
             1e-6 * (double)(count * sizeof *piece->narrow));
fail:
    return status;
}

/* ---- how a request is divided ---- */

static bool is_sum(CommKind kind)
{
    return kind == COMM_KIND_ALL_REDUCE || kind == COMM_KIND_REDUCE;
}

static bool has_shares(CommKind kind)
{
    return is_sum(kind) || kind == COMM_KIND_GATHER;
}

static const PieceRanks *ranks_of(const PieceWorld *world, CommKind kind)
{
    return kind == COMM_KIND_REDUCE || kind == COMM_KIND_GATHER ? &world->group : &world->all;
}

static bool is_narrow(const CommRequest *request)
{
    return request->kind == COMM_KIND_REDUCE && (request->detail & COMM_REDUCE_BF16);
}

/* Elements of one share; the last ones of an all-reduce may have fewer, or none. */
static int64_t share_of(const PieceWorld *world, const CommRequest *request)
{
    const int ranks = ranks_of(world, request->kind)->count;
    const int64_t share = (request->count + ranks - 1) / ranks;
    return (share + SHARE_ALIGN - 1) / SHARE_ALIGN * SHARE_ALIGN;
}

int64_t piece_capacity(const PieceWorld *world, const CommRequest *request)
{
    const int64_t bytes = world->slice * (int64_t)sizeof(float);
    switch (request->kind) {
    case COMM_KIND_ALL_REDUCE:
    case COMM_KIND_REDUCE:
    case COMM_KIND_GATHER:
        return world->slice;
    case COMM_KIND_ALL_REDUCE_F64:
        return bytes / (int64_t)sizeof(double);
    case COMM_KIND_ALL_GATHER:
        return bytes;
    case COMM_KIND_BROADCAST:
        return BROADCAST_BYTES;
    default:
        return 1;
    }
}

int64_t piece_elements(const PieceWorld *world, const CommRequest *request)
{
    if (request->count == 0) return 0;
    if (request->kind == COMM_KIND_BARRIER || request->kind == COMM_KIND_CLOSE || request->kind == COMM_KIND_SET_GROUP)
        return 0;
    return has_shares(request->kind) ? share_of(world, request) : request->count;
}

/* The piece's part of every share: starts from the beginning of the data, and sizes. */
static void divide(const PieceWorld *world, Piece *piece)
{
    const int64_t share = share_of(world, piece->request), count = piece->request->count;
    const int ranks = ranks_of(world, piece->request->kind)->count;
    for (int r = 0; r < ranks; r++) {
        const int64_t end = min64((r + 1) * share, count);
        const int64_t start = min64(r * share + piece->start, end);
        piece->starts[r] = (int)(start - piece->start); /* the base of the data moves along with piece->start */
        piece->sizes[r] = (int)min64(piece->count, end - start);
    }
}

static float *data_of(const Piece *piece)
{
    return (float *)piece->request->output + piece->start;
}

bool piece_needs(const PieceWorld *world, const Piece *piece, PieceStage stage)
{
    const CommRequest *request = piece->request;
    const bool alone = ranks_of(world, request->kind)->count == 1;
    if (piece->count == 0) return false;
    switch (stage) {
    case PIECE_EXCHANGE:
        return request->kind != COMM_KIND_GATHER && !(is_sum(request->kind) && alone);
    case PIECE_OUTER:
    case PIECE_SPREAD:
        return request->kind == COMM_KIND_REDUCE && world->outer.count > 1;
    case PIECE_GATHER:
        if (request->kind == COMM_KIND_REDUCE) return (request->detail & COMM_REDUCE_GATHER) && !alone;
        return request->kind == COMM_KIND_ALL_REDUCE || (request->kind == COMM_KIND_GATHER && !alone);
    case PIECE_DONE:
        break;
    }
    return false;
}

/* ---- arithmetic ---- */

static void narrow(Bf16 *restrict to, const float *restrict from, int64_t count)
{
    for (int64_t i = 0; i < count; i++) to[i] = bf16_from_f32(from[i]);
}

static void widen(float *restrict to, const Bf16 *restrict from, int64_t count)
{
    for (int64_t i = 0; i < count; i++) to[i] = bf16_to_f32(from[i]);
}

static void add(float *restrict sum, const float *restrict from, int64_t count)
{
    for (int64_t i = 0; i < count; i++) sum[i] += from[i];
}

static void add_bf16(float *restrict sum, const Bf16 *restrict from, int64_t count)
{
    for (int64_t i = 0; i < count; i++) sum[i] += bf16_to_f32(from[i]);
}

/* `parts` addends of `count` floats or bf16, `stride` elements apart, but for addend `own_index`, which is at `own`
 * (NULL: like the others). Added in order, a few KB at a time so that the partial sums stay in the first cache. */
static void sum_in_order(float *sum, const void *received, bool is_bf16, int parts, int64_t stride, const void *own,
                         int own_index, int64_t count)
{
    enum { BLOCK = 2048 };
    for (int64_t start = 0; start < count; start += BLOCK) {
        const int64_t length = min64(BLOCK, count - start);
        for (int r = 0; r < parts; r++) {
            const bool is_own = own && r == own_index;
            const float *floats = (is_own ? (const float *)own : (const float *)received + r * stride) + start;
            const Bf16 *halves = (is_own ? (const Bf16 *)own : (const Bf16 *)received + r * stride) + start;
            if (r == 0 && is_bf16)
                widen(sum + start, halves, length);
            else if (r == 0)
                memcpy(sum + start, floats, (size_t)length * sizeof(float));
            else if (is_bf16)
                add_bf16(sum + start, halves, length);
            else
                add(sum + start, floats, length);
        }
    }
}

/* A sum as it travels on: its own share of piece->narrow, and piece->summed the same numbers. */
static void round_sum(Piece *piece, int64_t count)
{
    narrow(piece->narrow, piece->summed, count);
    widen(piece->summed, piece->narrow, count);
}

/* The group's sums of this rank's share, from what came (nothing, in a group of one). */
static void sum_shares(const PieceWorld *world, Piece *piece)
{
    const PieceRanks *ranks = ranks_of(world, piece->request->kind);
    const int64_t count = piece->sizes[ranks->rank];
    const bool is_bf16 = is_narrow(piece->request);
    const float *own = data_of(piece) + piece->starts[ranks->rank];
    Bf16 *own_half = piece->narrow + ranks->rank * world->slice;
    if (is_bf16 && ranks->count == 1) narrow(own_half, own, count); /* else it was when the others' were */
    sum_in_order(piece->summed, piece->received, is_bf16, ranks->count, world->slice,
                 is_bf16 ? (const void *)own_half : (const void *)own, ranks->rank, count);
    if (is_bf16) round_sum(piece, count);
}

/* ---- the owners of a share among themselves ---- */

/* Their parts of it. What comes lies in piece->received, and behind it this rank's sum of its part. */
static void divide_share(const PieceWorld *world, Piece *piece)
{
    const int64_t count = piece->sizes[world->group.rank];
    const int64_t part = (count + world->outer.count - 1) / world->outer.count;
    piece->part = (part + SHARE_ALIGN - 1) / SHARE_ALIGN * SHARE_ALIGN;
    for (int g = 0; g < world->outer.count; g++) piece->part_starts[g] = (int)min64(g * piece->part, count);
}

static int part_size(const PieceWorld *world, const Piece *piece, int g)
{
    const int64_t end = min64(piece->part_starts[g] + piece->part, piece->sizes[world->group.rank]);
    return (int)(end - piece->part_starts[g]);
}

static float *part_sum(const PieceWorld *world, const Piece *piece)
{
    return piece->received + world->outer.count * piece->part;
}

static Bf16 *part_narrow(const PieceWorld *world, const Piece *piece)
{
    return (Bf16 *)(void *)(part_sum(world, piece) + piece->part);
}

/* The groups' sums of this rank's part. */
static void sum_groups(const PieceWorld *world, Piece *piece)
{
    const int group = world->outer.rank, count = part_size(world, piece, group);
    const bool is_bf16 = is_narrow(piece->request);
    const void *own = is_bf16 ? (const void *)(piece->narrow + piece->part_starts[group])
                              : (const void *)(piece->summed + piece->part_starts[group]);
    sum_in_order(part_sum(world, piece), piece->received, is_bf16, world->outer.count, piece->part, own, group, count);
    if (is_bf16) narrow(part_narrow(world, piece), part_sum(world, piece), count);
}

static void reduce_doubles(const PieceWorld *world, const Piece *piece)
{
    const double *received = (const double *)(const void *)piece->received; /* (ranks, count) fp64 */
    double *out = (double *)piece->request->output + piece->start;
    const CommReduce how = (CommReduce)piece->request->detail;
    for (int64_t i = 0; i < piece->count; i++) {
        double value = received[i];
        for (int r = 1; r < world->all.count; r++) {
            const double other = received[r * piece->count + i];
            if (how == COMM_SUM) {
                value += other;
            } else if (other != other || (how == COMM_MIN ? other < value : other > value)) {
                value = other; /* NaN wins over numbers, and stays: no comparison with it is true */
            }
        }
        out[i] = value;
    }
}

/* ---- stages ---- */

/* Every rank's part of share r goes to rank r. A rank's own part stays where it is. */
static Status begin_exchange_of_shares(const PieceWorld *world, Piece *piece)
{
    Status status = STATUS_OK;
    const PieceRanks *ranks = ranks_of(world, piece->request->kind);
    const float *data = data_of(piece);
    for (int r = 0; r < ranks->count; r++) {
        piece->send_sizes[r] = r == ranks->rank ? 0 : piece->sizes[r];
        piece->receive_sizes[r] = r == ranks->rank ? 0 : piece->sizes[ranks->rank];
        piece->receive_starts[r] = (int)(r * world->slice);
    }
    if (is_narrow(piece->request)) {
        for (int r = 0; r < ranks->count; r++)
            narrow(piece->narrow + r * world->slice, data + piece->starts[r], piece->sizes[r]);
        TRY_MPI(MPI_Ialltoallv(piece->narrow, piece->send_sizes, piece->receive_starts, MPI_UINT16_T, piece->received,
                               piece->receive_sizes, piece->receive_starts, MPI_UINT16_T, ranks->exchange,
                               &piece->pending));
    } else {
        TRY_MPI(MPI_Ialltoallv(data, piece->send_sizes, piece->starts, MPI_FLOAT, piece->received, piece->receive_sizes,
                               piece->receive_starts, MPI_FLOAT, ranks->exchange, &piece->pending));
    }
fail:
    return status;
}

static Status begin_exchange(const PieceWorld *world, Piece *piece)
{
    Status status = STATUS_OK;
    const CommRequest *request = piece->request;
    if (is_sum(request->kind)) {
        TRY(begin_exchange_of_shares(world, piece));
    } else if (request->kind == COMM_KIND_BROADCAST) {
        TRY_MPI(MPI_Ibcast((char *)request->output + piece->start, (int)piece->count, MPI_BYTE, (int)request->detail,
                           world->all.exchange, &piece->pending));
    } else {
        const int64_t size = request->kind == COMM_KIND_ALL_REDUCE_F64 ? (int64_t)sizeof(double) : 1;
        const int bytes = (int)(piece->count * size);
        TRY_MPI(MPI_Iallgather((const char *)request->input + piece->start * size, bytes, MPI_BYTE, piece->received,
                               bytes, MPI_BYTE, world->all.exchange, &piece->pending));
    }
fail:
    return status;
}

static Status begin_outer(const PieceWorld *world, Piece *piece)
{
    Status status = STATUS_OK;
    const bool is_bf16 = is_narrow(piece->request);
    const MPI_Datatype type = is_bf16 ? MPI_UINT16_T : MPI_FLOAT;
    const void *data = is_bf16 ? (const void *)piece->narrow : (const void *)piece->summed;
    divide_share(world, piece);
    for (int g = 0; g < world->outer.count; g++) {
        piece->send_sizes[g] = g == world->outer.rank ? 0 : part_size(world, piece, g);
        piece->receive_sizes[g] = g == world->outer.rank ? 0 : part_size(world, piece, world->outer.rank);
        piece->receive_starts[g] = (int)(g * piece->part);
    }
    TRY_MPI(MPI_Ialltoallv(data, piece->send_sizes, piece->part_starts, type, piece->received, piece->receive_sizes,
                           piece->receive_starts, type, world->outer.exchange, &piece->pending));
fail:
    return status;
}

static Status begin_spread(const PieceWorld *world, Piece *piece)
{
    Status status = STATUS_OK;
    const bool is_bf16 = is_narrow(piece->request);
    const MPI_Datatype type = is_bf16 ? MPI_UINT16_T : MPI_FLOAT;
    const void *sum = is_bf16 ? (const void *)part_narrow(world, piece) : (const void *)part_sum(world, piece);
    for (int g = 0; g < world->outer.count; g++) piece->send_sizes[g] = part_size(world, piece, g);
    TRY_MPI(MPI_Iallgatherv(sum, piece->send_sizes[world->outer.rank], type,
                            is_bf16 ? (void *)piece->narrow : (void *)piece->summed, piece->send_sizes,
                            piece->part_starts, type, world->outer.gather, &piece->pending));
fail:
    return status;
}

static Status begin_gather(const PieceWorld *world, Piece *piece)
{
    Status status = STATUS_OK;
    const PieceRanks *ranks = ranks_of(world, piece->request->kind);
    const int count = piece->sizes[ranks->rank];
    float *data = data_of(piece);
    if (is_narrow(piece->request)) {
        for (int r = 0; r < ranks->count; r++) piece->receive_starts[r] = (int)(r * world->slice);
        TRY_MPI(MPI_Iallgatherv(piece->narrow, count, MPI_UINT16_T, piece->received, piece->sizes,
                                piece->receive_starts, MPI_UINT16_T, ranks->gather, &piece->pending));
    } else {
        if (piece->request->kind == COMM_KIND_GATHER)
            memcpy(piece->summed, data + piece->starts[ranks->rank], (size_t)count * sizeof *data);
        TRY_MPI(MPI_Iallgatherv(piece->summed, count, MPI_FLOAT, data, piece->sizes, piece->starts, MPI_FLOAT,
                                ranks->gather, &piece->pending));
    }
fail:
    return status;
}

static void finish_exchange(const PieceWorld *world, Piece *piece)
{
    const CommRequest *request = piece->request;
    if (is_sum(request->kind)) {
        sum_shares(world, piece);
    } else if (request->kind == COMM_KIND_ALL_REDUCE_F64) {
        reduce_doubles(world, piece);
    } else if (request->kind == COMM_KIND_ALL_GATHER) {
        const char *received = (const char *)piece->received;
        for (int r = 0; r < world->all.count; r++)
            memcpy((char *)request->output + r * request->count + piece->start, received + r * piece->count,
                   (size_t)piece->count);
    }
}

/* A sum that is not gathered over MPI: it stays in this rank's share. */
static void keep_sum(const PieceWorld *world, Piece *piece)
{
    const PieceRanks *ranks = ranks_of(world, piece->request->kind);
    memcpy(data_of(piece) + piece->starts[ranks->rank], piece->summed,
           (size_t)piece->sizes[ranks->rank] * sizeof(float));
}

static void spread_narrow(const PieceWorld *world, Piece *piece)
{
    const PieceRanks *ranks = ranks_of(world, piece->request->kind);
    const Bf16 *received = (const Bf16 *)(const void *)piece->received;
    for (int r = 0; r < ranks->count; r++)
        widen(data_of(piece) + piece->starts[r], received + r * world->slice, piece->sizes[r]);
}

/* The stage has ended: what is left to do with what came, and which one is next. */
static void finish_stage(const PieceWorld *world, Piece *piece)
{
    const PieceStage ended = piece->stage;
    if (ended == PIECE_EXCHANGE) finish_exchange(world, piece);
    if (ended == PIECE_OUTER) sum_groups(world, piece);
    if (ended == PIECE_SPREAD && is_narrow(piece->request))
        widen(piece->summed, piece->narrow, piece->sizes[world->group.rank]);
    if (ended == PIECE_GATHER && is_narrow(piece->request)) spread_narrow(world, piece);
    piece->under_way = false;
    do {
        piece->stage++;
    } while (piece->stage != PIECE_DONE && !piece_needs(world, piece, piece->stage));
    if (piece->stage == PIECE_DONE && ended != PIECE_GATHER && is_sum(piece->request->kind)) keep_sum(world, piece);
}

/* NOLINTBEGIN(clang-analyzer-optin.mpi.MPI-Checker): comm_pipeline.c calls piece_test until each has completed */
Status piece_begin(const PieceWorld *world, Piece *piece)
{
    Status status = STATUS_OK;
    piece->pending = MPI_REQUEST_NULL;
    piece->under_way = false;
    piece->stage = PIECE_DONE;
    if (piece->count == 0) return STATUS_OK;
    if (has_shares(piece->request->kind)) divide(world, piece);
    if (is_narrow(piece->request)) TRY(allocate_narrow(world, piece));
    piece->stage = PIECE_EXCHANGE;
    if (piece_needs(world, piece, PIECE_EXCHANGE)) {
        TRY(begin_exchange(world, piece));
        piece->under_way = true;
    } else if (is_sum(piece->request->kind)) {
        finish_stage(world, piece); /* a group of one: its sum is there */
    } else {
        piece->stage = piece_needs(world, piece, PIECE_GATHER) ? PIECE_GATHER : PIECE_DONE;
    }
fail:
    return status;
}

Status piece_test(const PieceWorld *world, Piece *piece, bool *moved)
{
    Status status = STATUS_OK;
    int complete = 0;
    if (!piece->under_way) return STATUS_OK;
    TRY_MPI(MPI_Test(&piece->pending, &complete, MPI_STATUS_IGNORE));
    if (!complete) return STATUS_OK;
    finish_stage(world, piece);
    *moved = true;
fail:
    return status;
}

Status piece_continue(const PieceWorld *world, Piece *piece)
{
    Status status = STATUS_OK;
    if (piece->stage == PIECE_OUTER)
        TRY(begin_outer(world, piece));
    else if (piece->stage == PIECE_SPREAD)
        TRY(begin_spread(world, piece));
    else
        TRY(begin_gather(world, piece));
    piece->under_way = true;
fail:
    return status;
}
/* NOLINTEND(clang-analyzer-optin.mpi.MPI-Checker) */
