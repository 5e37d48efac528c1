#include "engine/cpu/packing.h"

#include <xmmintrin.h>

/* Pieces of a reorder: `pieces` blocks of the dimension dealt to threads, times all positions in the dimensions that
 * have no blocks (the taps of a convolution). */
typedef struct Reorder {
    const Cpu *cpu;
    const DnnTensor *plain;
    const DnnBlocked *packed;
    int32_t v, p;       /* the dimensions with blocks: v along vectors, p that of pairs, or of squares' rows */
    int64_t n, m;       /* v's block; pairs in p's */
    int32_t rest[2];    /* the dimensions without, if any */
    int64_t rest_count; /* positions in them */
    const float *from;
    uint16_t *halves;
    const float *squares;
    float *to;
    bool add;
} Reorder;

/* Where position `index` of the dimensions without blocks begins. */
static void rest_at(const Reorder *r, int64_t index, int64_t *plain, int64_t *packed)
{
    *plain = *packed = 0;
    for (int32_t k = r->plain->ndim - 3; k >= 0; k--) {
        const int32_t d = r->rest[k];
        const int64_t at = index % r->plain->dim[d];
        index /= r->plain->dim[d];
        *plain += at * r->plain->stride[d];
        *packed += at * r->packed->stride[d];
    }
}

/* Fills in the dimensions without blocks; false where a block is not whole or there are more blocks than known. */
static bool describe(const Cpu *cpu, const DnnPrimitive *primitive, Reorder *r)
{
    const DnnBlocked *packed = dnn_packed_layout(primitive);
    const DnnTensor *plain = dnn_plain_weights(primitive);
    int32_t rests = 0;
    if (!packed || packed->blocks < 2) return false;
    *r = (Reorder){.cpu = cpu, .plain = plain, .packed = packed, .rest_count = 1};
    r->v = packed->block_dim[packed->blocks - 2];
    r->p = packed->block_dim[packed->blocks - 1];
    if (r->v == r->p) return false;
    for (int32_t d = 0; d < plain->ndim; d++) {
        if (packed->padded[d] != plain->dim[d]) return false;
        if (d == r->v || d == r->p) continue;
        if (rests == 2) return false;
        r->rest[rests++] = d;
        r->rest_count *= plain->dim[d];
    }
    return true;
}

static bool is_pairs(Reorder *r)
{
    const DnnBlocked *b = r->packed;
    if (b->type != DNN_BF16 || b->block[b->blocks - 1] != 2 || b->blocks > 3) return false;
    r->n = b->block[b->blocks - 2];
    r->m = 1;
    if (b->blocks == 3) {
        if (b->block_dim[0] != r->p) return false;
        r->m = b->block[0];
    }
    return r->n % 16 == 0 && (16 % r->m == 0 || r->m % 16 == 0);
}

/* Pairs lie along the plain weights' rows: (v blocks) x rest. */
static Status along_share(void *context, int64_t begin, int64_t end, int32_t thread)
{
    const Reorder *r = context;
    const int64_t v_pitch = r->plain->stride[r->v], pairs = r->plain->dim[r->p] / 2;
    int64_t at[16]; /* of 16 pairs in a row, from the first on: m divides 16, or 16 divides m */
    for (int64_t k = 0; k < 16; k++) at[k] = k / r->m * r->packed->stride[r->p] + k % r->m * r->n * 2;
    for (int64_t i = begin; i < end; i++) {
        int64_t plain, packed;
        rest_at(r, i % r->rest_count, &plain, &packed);
        const float *x = r->from + plain + i / r->rest_count * r->n * v_pitch;
        uint16_t *y = r->halves + packed + i / r->rest_count * r->packed->stride[r->v];
        for (int64_t v = 0; v < r->n; v += 16)
            for (int64_t q = 0; q < pairs; q += 16)
                r->cpu->vector->pack_pairs_along(x + v * v_pitch + 2 * q, v_pitch,
                                                 y + 2 * v + q / r->m * r->packed->stride[r->p] + q % r->m * r->n * 2,
                                                 at);
    }
    _mm_sfence(); /* what the kernels wrote past the caches is there before the other threads go on */
    return STATUS_OK;
}

/* Pairs are of neighbouring rows: (p blocks) x rest. */
static Status across_share(void *context, int64_t begin, int64_t end, int32_t thread)
{
    const Reorder *r = context;
    const int64_t p_pitch = r->plain->stride[r->p];
    for (int64_t i = begin; i < end; i++) {
        int64_t plain, packed;
        rest_at(r, i % r->rest_count, &plain, &packed);
        const float *x = r->from + plain + i / r->rest_count * 2 * r->m * p_pitch;
        uint16_t *y = r->halves + packed + i / r->rest_count * r->packed->stride[r->p];
        for (int64_t block = 0; block < r->plain->dim[r->v] / r->n; block++)
            for (int64_t v = 0; v < r->n; v += 16)
                r->cpu->vector->pack_pairs_across(x + block * r->n + v, p_pitch, r->m,
                                                  y + block * r->packed->stride[r->v] + 2 * v, 2 * r->n);
    }
    _mm_sfence(); /* what the kernels wrote past the caches is there before the other threads go on */
    return STATUS_OK;
}

Status cpu_pack(const Cpu *cpu, DnnPrimitive *primitive, const float *plain, void *packed, void *scratchpad)
{
    Reorder r;
    if (cpu->vector->pack_pairs_along && describe(cpu, primitive, &r) && is_pairs(&r)) {
        r.from = plain;
        r.halves = packed;
        if (r.plain->stride[r.p] == 1 && r.plain->dim[r.p] % 32 == 0)
            return cpu_parallel(cpu, r.plain->dim[r.v] / r.n * r.rest_count, 1, along_share, &r);
        if (r.plain->stride[r.v] == 1)
            return cpu_parallel(cpu, r.plain->dim[r.p] / (2 * r.m) * r.rest_count, 1, across_share, &r);
    }
    cpu_use_threads(cpu);
    return dnn_pack(primitive, plain, packed, scratchpad);
}

/* Squares of 16 x 16, v's index outside: (p blocks) x rest. */
static Status square_share(void *context, int64_t begin, int64_t end, int32_t thread)
{
    const Reorder *r = context;
    const int64_t p_pitch = r->plain->stride[r->p];
    for (int64_t i = begin; i < end; i++) {
        int64_t plain, packed;
        rest_at(r, i % r->rest_count, &plain, &packed);
        const float *x = r->squares + packed + i / r->rest_count * r->packed->stride[r->p];
        float *y = r->to + plain + i / r->rest_count * 16 * p_pitch;
        for (int64_t v = 0; v < r->plain->dim[r->v] / 16; v++)
            r->cpu->vector->unpack_square(x + v * r->packed->stride[r->v], y + 16 * v, p_pitch, r->add);
    }
    _mm_sfence(); /* what the kernels wrote past the caches is there before the other threads go on */
    return STATUS_OK;
}

Status cpu_unpack(const Cpu *cpu, DnnPrimitive *primitive, const void *packed, float *plain, bool add, void *scratchpad)
{
    Reorder r;
    if (cpu->vector->unpack_square && describe(cpu, primitive, &r) && r.packed->type == DNN_F32 &&
        r.packed->blocks == 2 && r.packed->block[0] == 16 && r.packed->block[1] == 16 && r.plain->stride[r.v] == 1) {
        r.squares = packed;
        r.to = plain;
        r.add = add;
        return cpu_parallel(cpu, r.plain->dim[r.p] / 16 * r.rest_count, 1, square_share, &r);
    }
    cpu_use_threads(cpu);
    return dnn_unpack(primitive, packed, plain, add, scratchpad);
}
