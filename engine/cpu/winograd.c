#include "engine/cpu/winograd.h"

#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "engine/cpu/onednn.h"

#define POINTS 16 /* of a transformed tile */

struct Winograd {
    const Cpu *cpu;
    WinogradKind kind;
    WinogradShape shape;
    /* The convolution that is run: in (samples,in_h,in_w,in) to out (samples,out_h,out_w,out). */
    int64_t in_h, in_w, in, out_h, out_w, out, pad_top, pad_left;
    int64_t tiles_y, tiles_x, tiles; /* of all samples */
    int64_t block;                   /* tiles in one set of products */
    DnnPrimitive *product;     /* (16, block, in) (16, in, out), or for weights (16, out, block) (16, block, in) */
    DnnPrimitive *product_add; /* weights: added to a thread's sum */
};

/* A thread's part of the workspace. */
typedef struct Scratch {
    void *scratchpad;
    float *in, *out; /* transformed tiles: (16, block, in), (16, block, out) */
    float *zeros;    /* a pixel outside the picture */
} Scratch;

static int64_t most(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

static Scratch scratch_carve(const Winograd *plan, Carver *carver)
{
    Scratch s;
    size_t scratchpad = dnn_scratchpad_bytes(plan->product);
    if (plan->product_add && dnn_scratchpad_bytes(plan->product_add) > scratchpad)
        scratchpad = dnn_scratchpad_bytes(plan->product_add);
    s.scratchpad = carve(carver, (int64_t)scratchpad, 1);
    s.in = carve_floats(carver, POINTS * plan->block * plan->in);
    s.out = carve_floats(carver, POINTS * plan->block * plan->out);
    s.zeros = carve_floats(carver, most(plan->in, plan->out));
    return s;
}

static size_t scratch_bytes(const Winograd *plan)
{
    Carver carver = {0};
    scratch_carve(plan, &carver);
    return carver.used;
}

static Scratch scratch_of(const Winograd *plan, void *workspace, int32_t thread)
{
    Carver carver = {.base = (char *)workspace + (size_t)thread * scratch_bytes(plan)};
    Scratch s = scratch_carve(plan, &carver);
    memset(s.zeros, 0, (size_t)most(plan->in, plan->out) * sizeof *s.zeros);
    return s;
}

/* Transformed weights, or the sum of their gradients a thread. */
static int64_t weight_floats(const Winograd *plan)
{
    return POINTS * plan->in * plan->out;
}

static Winograd describe(const Cpu *cpu, WinogradKind kind, const WinogradShape *s)
{
    Winograd plan = {.cpu = cpu, .kind = kind, .shape = *s};
    if (kind == WINOGRAD_INPUT_GRADIENT) {
        plan.in_h = s->oh, plan.in_w = s->ow, plan.in = s->o;
        plan.out_h = s->h, plan.out_w = s->w, plan.out = s->c;
        plan.pad_top = 2 - s->pad_top, plan.pad_left = 2 - s->pad_left;
    } else {
        plan.in_h = s->h, plan.in_w = s->w, plan.in = s->c;
        plan.out_h = s->oh, plan.out_w = s->ow, plan.out = s->o;
        plan.pad_top = s->pad_top, plan.pad_left = s->pad_left;
    }
    plan.tiles_y = (plan.out_h + 1) / 2;
    plan.tiles_x = (plan.out_w + 1) / 2;
    plan.tiles = s->samples * plan.tiles_y * plan.tiles_x;
    /* The transformed tiles of a block stay in the second-level cache, if that leaves enough of them for a product. */
    const int64_t fits = 786432 / (POINTS * (int64_t)sizeof(float) * (plan.in + plan.out)) / 16 * 16;
    const int64_t least = kind == WINOGRAD_WEIGHT_GRADIENT ? 64 : 32;
    plan.block = fits < least ? least : fits > 128 ? 128 : fits;
    return plan;
}

bool winograd_suits(const Cpu *cpu, WinogradKind kind, const WinogradShape *shape)
{
    const Winograd plan = describe(cpu, kind, shape);
    const int64_t bytes = weight_floats(&plan) * (int64_t)sizeof(float);
    const int64_t copies = kind == WINOGRAD_WEIGHT_GRADIENT ? cpu->threads : 1;
    return shape->c >= 32 && shape->o >= 32 && shape->pad_top <= 2 && shape->pad_left <= 2 &&
           bytes <= (int64_t)16 << 20 && bytes * copies <= (int64_t)128 << 20 &&
           plan.tiles >= plan.block * cpu->threads;
}

/* (16, rows, columns), dense, or each matrix transposed. */
static DnnTensor matrices(int64_t rows, int64_t columns, bool transposed)
{
    DnnTensor t = {DNN_F32, 3, {POINTS, rows, columns}, {rows * columns, columns, 1}};
    if (transposed) {
        t.stride[1] = 1;
        t.stride[2] = rows;
    }
    return t;
}

Status winograd_create(const Cpu *cpu, WinogradKind kind, const WinogradShape *shape, Winograd **out)
{
    Status status = STATUS_OK;
    Winograd *plan = mem_alloc_array(1, sizeof *plan);
    if (!plan) return ERR_MEMORY;
    *plan = describe(cpu, kind, shape);
    DnnSpec spec = {.kind = DNN_MATMUL, .lanes = cpu->threads};
    cpu_use_one_thread();
    if (kind == WINOGRAD_WEIGHT_GRADIENT) {
        spec.src = matrices(plan->out, plan->block, true);
        spec.weights = matrices(plan->block, plan->in, false);
        spec.dst = matrices(plan->out, plan->in, false);
        TRY(dnn_create(&spec, &plan->product));
        spec.accumulate = true;
        TRY(dnn_create(&spec, &plan->product_add));
    } else {
        /* Our transform leaves the weights as (16, o, c): for the forward direction that is (in, out) transposed. */
        spec.pack_weights = true;
        spec.src = matrices(plan->block, plan->in, false);
        spec.weights = matrices(plan->in, plan->out, kind == WINOGRAD_FORWARD);
        spec.dst = matrices(plan->block, plan->out, false);
        TRY(dnn_create(&spec, &plan->product));
    }
    cpu_use_threads(cpu);
    *out = plan;
    return STATUS_OK;
fail:
    cpu_use_threads(cpu);
    winograd_free(plan);
    return status;
}

void winograd_free(Winograd *plan)
{
    if (!plan) return;
    dnn_free(plan->product);
    dnn_free(plan->product_add);
    free(plan);
}

size_t winograd_workspace_bytes(const Winograd *plan)
{
    const size_t weights = (size_t)weight_floats(plan) * sizeof(float);
    const size_t running = (size_t)plan->cpu->threads * scratch_bytes(plan);
    if (plan->kind == WINOGRAD_WEIGHT_GRADIENT) return running + (size_t)plan->cpu->threads * weights;
    const size_t packing = weights + dnn_scratchpad_bytes(plan->product) + 64;
    return running > packing ? running : packing;
}

size_t winograd_packed_bytes(const Winograd *plan)
{
    if (plan->kind == WINOGRAD_WEIGHT_GRADIENT) return 0;
    const size_t packed = dnn_packed_bytes(plan->product);
    return packed > 0 ? packed : (size_t)weight_floats(plan) * sizeof(float);
}

const char *winograd_detail(const Winograd *plan)
{
    return "winograd 2x2";
}

/* ---- weights ---- */

typedef struct PackRun {
    const Winograd *plan;
    const float *w;
    float *u; /* (16, o, c) */
} PackRun;

static Status pack_share(void *context, int64_t begin, int64_t end, int32_t thread)
{
    const PackRun *run = context;
    const WinogradShape *s = &run->plan->shape;
    for (int64_t o = begin; o < end; o++) {
        const float *g[9];
        for (int k = 0; k < 9; k++)
            g[k] = run->w + (o * 9 + (run->plan->kind == WINOGRAD_INPUT_GRADIENT ? 8 - k : k)) * s->c;
        run->plan->cpu->vector->winograd_weights(g, s->c, run->u + o * s->c, s->o * s->c);
    }
    return STATUS_OK;
}

Status winograd_pack(Winograd *plan, const float *w, void *packed, void *workspace)
{
    Status status = STATUS_OK;
    Carver carver = {.base = workspace};
    const bool reordered = dnn_packed_bytes(plan->product) > 0;
    float *u = carve_floats(&carver, weight_floats(plan));
    void *scratchpad = carve(&carver, (int64_t)dnn_scratchpad_bytes(plan->product), 1);
    PackRun run = {plan, w, reordered ? u : packed};
    TRY(cpu_parallel(plan->cpu, plan->shape.o, 8, pack_share, &run));
    cpu_use_one_thread();
    if (reordered) TRY(dnn_pack(plan->product, u, packed, scratchpad));
fail:
    return status;
}

/* ---- tiles ---- */

/* Where a tile's first output pixel is. */
typedef struct Tile {
    int64_t sample, y, x;
} Tile;

static Tile tile_at(const Winograd *plan, int64_t index)
{
    const int64_t in_sample = plan->tiles_y * plan->tiles_x, i = index % in_sample;
    return (Tile){index / in_sample, i / plan->tiles_x * 2, i % plan->tiles_x * 2};
}

/* A pixel of a picture (samples,h,w,c), or NULL outside. */
static const float *pixel_at(const float *data, int64_t h, int64_t w, int64_t c, int64_t sample, int64_t y, int64_t x)
{
    return y < 0 || y >= h || x < 0 || x >= w ? NULL : data + ((sample * h + y) * w + x) * c;
}

/* Transformed 4x4 inputs of tiles [first, first + count) into s->in; rows past them become zeros. */
static void transform_inputs(const Winograd *plan, const Scratch *s, const float *data, int64_t first, int64_t count)
{
    const int64_t pitch = plan->block * plan->in;
    for (int64_t t = 0; t < count; t++) {
        const Tile tile = tile_at(plan, first + t);
        const float *pixel[16];
        for (int i = 0; i < 16; i++) {
            pixel[i] = pixel_at(data, plan->in_h, plan->in_w, plan->in, tile.sample, tile.y - plan->pad_top + i / 4,
                                tile.x - plan->pad_left + i % 4);
            if (!pixel[i]) pixel[i] = s->zeros;
        }
        plan->cpu->vector->winograd_input(pixel, plan->in, s->in + t * plan->in, pitch);
    }
    for (int i = 0; count < plan->block && i < POINTS; i++)
        memset(s->in + i * pitch + count * plan->in, 0, (size_t)((plan->block - count) * plan->in) * sizeof(float));
}

typedef struct Run {
    Winograd *plan;
    const float *from, *bias, *add;
    const void *packed;
    float *to;
    void *workspace;
} Run;

/* Blocks [begin, end) of tiles. */
static Status run_share(void *context, int64_t begin, int64_t end, int32_t thread)
{
    Status status = STATUS_OK;
    const Run *run = context;
    const Winograd *plan = run->plan;
    const Scratch s = scratch_of(plan, run->workspace, thread);
    for (int64_t b = begin; b < end; b++) {
        const int64_t first = b * plan->block;
        const int64_t count = plan->tiles - first < plan->block ? plan->tiles - first : plan->block;
        transform_inputs(plan, &s, run->from, first, count);
        TRY(dnn_run(
            plan->product,
            &(DnnArgs){.lane = thread, .src = s.in, .weights = run->packed, .dst = s.out, .scratchpad = s.scratchpad}));
        for (int64_t t = 0; t < count; t++) {
            const Tile tile = tile_at(plan, first + t);
            const float *add[4] = {NULL};
            float *pixel[4];
            for (int i = 0; i < 4; i++) {
                const int64_t y = tile.y + i / 2, x = tile.x + i % 2;
                const bool inside = y < plan->out_h && x < plan->out_w;
                const int64_t at = ((tile.sample * plan->out_h + y) * plan->out_w + x) * plan->out;
                pixel[i] = inside ? run->to + at : NULL;
                if (run->add && inside) add[i] = run->add + at;
            }
            plan->cpu->vector->winograd_output(s.out + t * plan->out, plan->block * plan->out, plan->out, run->bias,
                                               add, pixel);
        }
    }
fail:
    return status;
}

Status winograd_run(Winograd *plan, const float *from, const void *packed, const float *bias, const float *add,
                    float *to, void *workspace)
{
    Run run = {plan, from, bias, add, packed, to, workspace};
    cpu_use_one_thread(); /* the products' number, for what runs on the calling thread */
    return cpu_parallel(plan->cpu, (plan->tiles + plan->block - 1) / plan->block, 1, run_share, &run);
}

/* ---- the weights' gradient ---- */

typedef struct WeightRun {
    Winograd *plan;
    const float *x, *dy;
    float *sums; /* a thread's sum: (16, o, c) each */
    float *dw;
    bool accumulate;
    int64_t parts; /* threads that have a sum */
    void *workspace;
} WeightRun;

static Status weights_share(void *context, int64_t begin, int64_t end, int32_t thread)
{
    Status status = STATUS_OK;
    const WeightRun *run = context;
    const Winograd *plan = run->plan;
    const Scratch s = scratch_of(plan, run->workspace, thread);
    const int64_t pitch = plan->block * plan->out;
    for (int64_t b = begin; b < end; b++) {
        const int64_t first = b * plan->block;
        const int64_t count = plan->tiles - first < plan->block ? plan->tiles - first : plan->block;
        transform_inputs(plan, &s, run->x, first, count);
        for (int64_t t = 0; t < count; t++) {
            const Tile tile = tile_at(plan, first + t);
            const float *pixel[4];
            for (int i = 0; i < 4; i++) {
                pixel[i] =
                    pixel_at(run->dy, plan->out_h, plan->out_w, plan->out, tile.sample, tile.y + i / 2, tile.x + i % 2);
                if (!pixel[i]) pixel[i] = s.zeros;
            }
            plan->cpu->vector->winograd_dy(pixel, plan->out, s.out + t * plan->out, pitch);
        }
        for (int i = 0; count < plan->block && i < POINTS; i++)
            memset(s.out + i * pitch + count * plan->out, 0,
                   (size_t)((plan->block - count) * plan->out) * sizeof(float));
        TRY(dnn_run(b == begin ? plan->product : plan->product_add,
                    &(DnnArgs){.lane = thread,
                               .src = s.out,
                               .weights = s.in,
                               .dst = run->sums + thread * weight_floats(plan),
                               .scratchpad = s.scratchpad}));
    }
fail:
    return status;
}

/* Output channels [begin, end): the threads' sums in their order, and back from the transform. */
static Status finish_share(void *context, int64_t begin, int64_t end, int32_t thread)
{
    const WeightRun *run = context;
    const Winograd *plan = run->plan;
    const int64_t c = plan->in;
    for (int64_t o = begin; o < end; o++) {
        float *g[9];
        for (int k = 0; k < 9; k++) g[k] = run->dw + (o * 9 + k) * c;
        plan->cpu->vector->winograd_dweights(run->sums + o * c, plan->out * c, run->parts, weight_floats(plan), c,
                                             run->accumulate, g);
    }
    return STATUS_OK;
}

Status winograd_run_weights(Winograd *plan, const float *x, const float *dy, float *dw, bool accumulate,
                            void *workspace)
{
    Status status = STATUS_OK;
    const int64_t blocks = (plan->tiles + plan->block - 1) / plan->block, threads = plan->cpu->threads;
    char *sums = (char *)workspace + (size_t)threads * scratch_bytes(plan);
    WeightRun run = {.plan = plan,
                     .x = x,
                     .dy = dy,
                     .sums = (float *)(void *)sums,
                     .dw = dw,
                     .accumulate = accumulate,
                     .parts = blocks < threads ? blocks : threads,
                     .workspace = workspace};
    cpu_use_one_thread();
    TRY(cpu_parallel(plan->cpu, blocks, 1, weights_share, &run));
    TRY(cpu_parallel(plan->cpu, plan->out, 8, finish_share, &run));
fail:
    return status;
}
