/* One piece of a collective: some of its elements on their way between the ranks, a few MB at a time. For
 * comm_pipeline.c, which keeps pieces in order; every call from the MPI thread.
 *
 * A piece goes through the stages it needs, one after the other:
 *
 *   EXCHANGE   sums: rank r of the group receives every rank's part of the r-th share, and adds them in rank order;
 *              other collectives: all they have to do
 *   OUTER      sums with several groups: the owners of a share divide it among themselves once more, and each adds the
 *              groups' sums of its part in the groups' order
 *   SPREAD     and they gather the parts
 *   GATHER     every rank of the group receives all shares
 *
 * Each element is added by a fixed rule in a fixed order, so all ranks get the same bits, whatever the sizes, the piece
 * length, or MPI's algorithms. MPI_IN_PLACE is used nowhere; it is slow in Open MPI. */
#ifndef ENGINE_COMM_PIECE_H
#define ENGINE_COMM_PIECE_H

#include <mpi.h>

#include "engine/comm_internal.h"

typedef enum PieceStage { PIECE_EXCHANGE, PIECE_OUTER, PIECE_SPREAD, PIECE_GATHER, PIECE_DONE } PieceStage;

/* Ranks among which pieces travel. Nonblocking collectives match by the order of calls on a communicator, so exchanges
 * and gathers have one each. */
typedef struct PieceRanks {
    int rank, count;
    MPI_Comm exchange, gather;
} PieceRanks;

/* All of them, the group, and the ranks that own the same share in every group. */
typedef struct PieceWorld {
    PieceRanks all, group, outer;
    int64_t slice; /* the most floats of one rank in a piece */
} PieceWorld;

typedef struct Piece {
    CommRequest *request;
    int64_t start, count; /* of the request's elements, or for sums and gathers of every share's */
    bool last;            /* of its request */
    PieceStage stage;
    bool under_way; /* `pending` is that stage's */
    MPI_Request pending;
    float *received;  /* (ranks, slice) fp32 */
    float *summed;    /* (slice) fp32 */
    uint16_t *narrow; /* (ranks, slice) bf16, what is sent; NULL before the first that travels so */
    /* (ranks) each; MPI reads them till the end */
    int *starts, *sizes, *send_sizes, *receive_sizes, *receive_starts, *part_starts;
    int64_t part; /* floats of the largest part of an OUTER stage */
} Piece;

/* Buffers for `ranks` ranks, but those for bf16, which the first piece of such a sum makes; ERR_MEMORY. */
Status piece_create(Piece *piece, int ranks, int64_t slice);
void piece_destroy(Piece *piece);
int64_t piece_bytes(int ranks, int64_t slice, bool bf16);

/* The most elements of a request that one piece takes, and how many the request has in that sense. */
int64_t piece_capacity(const PieceWorld *world, const CommRequest *request);
int64_t piece_elements(const PieceWorld *world, const CommRequest *request);

/* piece->request, start and count are set. Begins its first stage. Pieces are begun in order. */
Status piece_begin(const PieceWorld *world, Piece *piece);
/* Looks whether the stage under way has ended, and does what follows, up to the next stage, which then waits for
 * piece_continue. */
Status piece_test(const PieceWorld *world, Piece *piece, bool *moved);
/* Begins the stage that the piece waits for, one after EXCHANGE. On each communicator pieces must come in order. */
Status piece_continue(const PieceWorld *world, Piece *piece);
/* Whether the piece goes through `stage` at all. */
bool piece_needs(const PieceWorld *world, const Piece *piece, PieceStage stage);

/* ERR_COMM with MPI's text. */
Status comm_mpi_error(int code, const char *file, int line);
#define TRY_MPI(call)                                                                           \
    do {                                                                                        \
        int mpi_code_ = (call);                                                                 \
        if (mpi_code_ != MPI_SUCCESS) FAIL_WITH(comm_mpi_error(mpi_code_, __FILE__, __LINE__)); \
    } while (0)

#endif
