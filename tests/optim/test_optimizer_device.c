/* The optimizer on a device against the host's, bit for bit: weights, moments, moving average, norm and what was
 * skipped. The device is the CUDA backend that VASILY_CUDA_LIBRARY names; without one the test is skipped. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <math.h>
#include <string.h>
#include <cmocka.h>

#include "base/arena.h"
#include "base/bf16.h"
#include "engine/param_image.h"
#include "optim/optimizer.h"

#define STEPS 20
#define BAD_STEP 7

static Backend *backend;

typedef struct Side {
    ParamTable *table;
    ParamStore store;
    Optimizer *optimizer;
} Side;

static OptimConfig article(void)
{
    return (OptimConfig){.max_lr = 1e-2,
                         .pct_start = 0.25,
                         .div_factor = 25,
                         .final_div_factor = 1e4,
                         .cycle_momentum = true,
                         .base_momentum = 0.85,
                         .max_momentum = 0.95,
                         .beta1 = 0.9,
                         .beta2 = 0.999,
                         .eps = 1e-8,
                         .weight_decay = 0.01,
                         .clip_norm = 1,
                         .ema_decay = 0.9999,
                         .ema_warmup = true};
}

/* One parameter of `count` elements, on the device or (NULL) on the host. */
static Side side_open(const OptimConfig *config, int64_t count, Backend *where, bool halves)
{
    Side side = {0};
    const Param param = {.name = "w", .shape = SHAPE1(count), .trainable = true, .count = count};
    int32_t index = -1;
    assert_int_equal(param_table_create(&side.table), STATUS_OK);
    assert_int_equal(param_table_add(side.table, &param, &index), STATUS_OK);
    assert_int_equal(param_table_layout(side.table, NULL, 0), STATUS_OK);
    assert_int_equal(param_store_create(side.table, true, &side.store), STATUS_OK);
    for (int64_t i = 0; i < count; i++) side.store.weights[i] = (float)cos((double)i);
    if (where) assert_int_equal(param_image_open(&side.store, where, halves), STATUS_OK);
    assert_int_equal(optimizer_create(config, STEPS, &side.store, where, 2, NULL, &side.optimizer), STATUS_OK);
    return side;
}

static void side_close(Side *side)
{
    optimizer_free(side->optimizer);
    param_store_free(&side->store);
    param_table_free(side->table);
}

/* Values of many magnitudes, so that another order of the norm's sums would show. */
static void fill_grads(float *grads, int64_t count, int step)
{
    for (int64_t i = 0; i < count; i++)
        grads[i] = (float)(sin(1.7 * (double)i + step) * exp(8 * cos(0.3 * (double)i) - 8));
    if (step == BAD_STEP) grads[count - 1] = NAN;
}

static OptimizerReport take_step(Side *side, int64_t count, int step)
{
    OptimizerReport report;
    ParamImage *image = side->store.image;
    fill_grads(side->store.grads, count, step);
    if (image)
        assert_int_equal(backend->upload(backend, image->grads, side->store.grads, (size_t)count * sizeof(float)),
                         STATUS_OK);
    assert_int_equal(optimizer_step(side->optimizer, step, 0.25, &report), STATUS_OK);
    return report;
}

static void same_array(Side *host, Side *device, OptimizerArray which, int64_t count, const char *name)
{
    const size_t bytes = (size_t)count * sizeof(float);
    float *ours = mem_alloc_aligned(bytes), *theirs = mem_alloc_aligned(bytes);
    assert_int_equal(optimizer_read(host->optimizer, which, 0, count, ours), STATUS_OK);
    assert_int_equal(optimizer_read(device->optimizer, which, 0, count, theirs), STATUS_OK);
    if (memcmp(ours, theirs, bytes) != 0) fail_msg("%s differ", name);
    mem_free_aligned(ours);
    mem_free_aligned(theirs);
}

static void same_weights(Side *host, Side *device, int64_t count)
{
    const ParamImage *image = device->store.image;
    assert_int_equal(param_image_download_weights(&device->store), STATUS_OK);
    assert_memory_equal(host->store.weights, device->store.weights, (size_t)count * sizeof(float));
    if (!image->half_weights) return;
    uint16_t *halves = mem_alloc_aligned((size_t)count * sizeof *halves);
    assert_int_equal(backend->download(backend, halves, image->half_weights, (size_t)count * sizeof *halves),
                     STATUS_OK);
    for (int64_t i = 0; i < count; i++) assert_int_equal(halves[i], bf16_from_f32(host->store.weights[i]));
    mem_free_aligned(halves);
}

static void compare(int64_t count, double clip_norm, double ema_decay, bool halves)
{
    OptimConfig config = article();
    config.clip_norm = clip_norm;
    config.ema_decay = ema_decay;
    Side host = side_open(&config, count, NULL, false), device = side_open(&config, count, backend, halves);
    for (int step = 0; step < STEPS; step++) {
        const OptimizerReport ours = take_step(&host, count, step), theirs = take_step(&device, count, step);
        assert_int_equal(ours.skipped, step == BAD_STEP);
        assert_int_equal(theirs.skipped, step == BAD_STEP);
        if (!ours.skipped) assert_memory_equal(&ours.grad_norm, &theirs.grad_norm, sizeof ours.grad_norm);
        assert_true(ours.clip == theirs.clip && ours.lr == theirs.lr && ours.ema_decay == theirs.ema_decay);
        if (step == BAD_STEP || step == BAD_STEP + 1) same_weights(&host, &device, count);
    }
    assert_int_equal(optimizer_state(device.optimizer).t, STEPS - 1);
    assert_int_equal(optimizer_state(device.optimizer).skipped, 1);
    same_weights(&host, &device, count);
    same_array(&host, &device, OPTIMIZER_M, count, "first moments");
    same_array(&host, &device, OPTIMIZER_V, count, "second moments");
    if (ema_decay > 0) same_array(&host, &device, OPTIMIZER_EMA, count, "moving averages");
    side_close(&host);
    side_close(&device);
}

static void test_the_bits_are_the_hosts(void **state)
{
    if (!backend) skip();
    compare(1, 1, 0.9999, true);
    compare(333, 0.01, 0, true);
    compare(4096, 0, 0.99, false);
    compare(20003, 0.5, 0.9999, true);
}

/* The update is recorded once; each step's values reach it through memory. */
static void test_a_recorded_update_is_the_same(void **state)
{
    const int64_t count = 5003;
    OptimConfig config = article();
    Recording *recording = NULL;
    OptimizerReport report;
    if (!backend) skip();
    Side host = side_open(&config, count, NULL, false), device = side_open(&config, count, backend, true);
    assert_int_equal(backend->device->record_begin(backend), STATUS_OK);
    assert_int_equal(optimizer_queue_update(device.optimizer), STATUS_OK);
    assert_int_equal(backend->device->record_end(backend, &recording), STATUS_OK);
    for (int step = 0; step < STEPS; step++) {
        const OptimizerReport ours = take_step(&host, count, step);
        fill_grads(device.store.grads, count, step);
        assert_int_equal(optimizer_begin_step(device.optimizer, step, 0.25), STATUS_OK);
        assert_int_equal(
            backend->upload(backend, device.store.image->grads, device.store.grads, (size_t)count * sizeof(float)),
            STATUS_OK);
        assert_int_equal(backend->device->replay(backend, recording), STATUS_OK);
        assert_int_equal(backend->device->finish(backend), STATUS_OK);
        optimizer_end_step(device.optimizer, &report);
        assert_true(ours.skipped == report.skipped && ours.lr == report.lr && ours.clip == report.clip);
    }
    same_weights(&host, &device, count);
    same_array(&host, &device, OPTIMIZER_EMA, count, "moving averages");
    backend->device->recording_free(backend, recording);
    side_close(&host);
    side_close(&device);
}

/* More than one group of blocks: sums of sums. One step, for it is large. */
static void test_the_norm_of_many_blocks(void **state)
{
    const int64_t count = (int64_t)UPDATE_NORM_BLOCK * UPDATE_NORM_GROUP + 4099;
    OptimConfig config = article();
    config.ema_decay = 0;
    if (!backend) skip();
    Side host = side_open(&config, count, NULL, false), device = side_open(&config, count, backend, false);
    const OptimizerReport ours = take_step(&host, count, 0), theirs = take_step(&device, count, 0);
    assert_memory_equal(&ours.grad_norm, &theirs.grad_norm, sizeof ours.grad_norm);
    same_weights(&host, &device, count);
    side_close(&host);
    side_close(&device);
}

/* ---- groups ---- */

static OptimGroup GROUPS[] = {{"held.*", 0, 1}, {"slow.*", 0.1, 3}};

/* Sizes such that blocks of the norm have one group, two, and many. */
static const struct {
    const char *name;
    int64_t count;
} PART[] = {{"held.0", 9000}, {"slow.0", 5},    {"held.1", 40}, {"other.0", 3},       {"other.1", 12305},
            {"held.2", 17},   {"slow.1", 8200}, {"held.3", 1},  {"held.4", 2 * 4096}, {"slow.2", 21}};
enum { PARTS = sizeof PART / sizeof *PART };

static Side groups_open(const OptimConfig *config, Backend *where)
{
    Side side = {0};
    int32_t index = -1;
    assert_int_equal(param_table_create(&side.table), STATUS_OK);
    for (int k = 0; k < PARTS; k++)
        assert_int_equal(
            param_table_add(side.table,
                            &(Param){.name = PART[k].name, .shape = SHAPE1(PART[k].count), .trainable = true}, &index),
            STATUS_OK);
    assert_int_equal(param_table_layout(side.table, NULL, 0), STATUS_OK);
    assert_int_equal(param_store_create(side.table, true, &side.store), STATUS_OK);
    for (int64_t i = 0; i < param_table_trainable_elements(side.table); i++)
        side.store.weights[i] = (float)cos((double)i);
    if (where) assert_int_equal(param_image_open(&side.store, where, true), STATUS_OK);
    assert_int_equal(optimizer_create(config, STEPS, &side.store, where, 2, NULL, &side.optimizer), STATUS_OK);
    return side;
}

/* Moments as if all had been trained before, so that an update of what is held would show. */
static void groups_begin(Side *side)
{
    const int64_t all = param_table_trainable_elements(side->table);
    float *values = mem_alloc_aligned((size_t)all * sizeof *values);
    for (int64_t i = 0; i < all; i++) values[i] = (float)sin((double)i);
    assert_int_equal(optimizer_write(side->optimizer, OPTIMIZER_M, 0, all, values), STATUS_OK);
    for (int64_t i = 0; i < all; i++) values[i] = 1 + values[i];
    assert_int_equal(optimizer_write(side->optimizer, OPTIMIZER_V, 0, all, values), STATUS_OK);
    mem_free_aligned(values);
}

/* Of what is not held. */
static OptimizerReport groups_step(Side *side, int step)
{
    OptimizerReport report;
    ParamImage *image = side->store.image;
    const int64_t all = param_table_trainable_elements(side->table);
    fill_grads(side->store.grads, all, step);
    for (int k = 0; k < PARTS; k++) {
        const Param *param = param_table_get(side->table, k);
        const int64_t padded = (param->count + PARAM_ALIGN - 1) / PARAM_ALIGN * PARAM_ALIGN;
        const int64_t first = strncmp(param->name, "held", 4) == 0 ? 0 : param->count;
        memset(side->store.grads + param->offset + first, 0, (size_t)(padded - first) * sizeof(float));
    }
    if (image)
        assert_int_equal(backend->upload(backend, image->grads, side->store.grads, (size_t)all * sizeof(float)),
                         STATUS_OK);
    assert_int_equal(optimizer_step(side->optimizer, step, 0.25, &report), STATUS_OK);
    return report;
}

static void test_groups_are_the_hosts(void **state)
{
    OptimConfig config = article();
    if (!backend) skip();
    config.groups = (ConfigList){GROUPS, sizeof GROUPS / sizeof *GROUPS};
    for (int with_ema = 0; with_ema < 2; with_ema++) {
        config.ema_decay = with_ema ? 0.9 : 0;
        Side host = groups_open(&config, NULL), device = groups_open(&config, backend);
        groups_begin(&host);
        groups_begin(&device);
        const int64_t all = param_table_trainable_elements(host.table);
        float *before = mem_alloc_aligned((size_t)all * sizeof *before);
        memcpy(before, host.store.weights, (size_t)all * sizeof *before);
        for (int step = 0; step < 4; step++) {
            const OptimizerReport ours = groups_step(&host, step), theirs = groups_step(&device, step);
            assert_true(ours.skipped == theirs.skipped && ours.grad_norm == theirs.grad_norm);
        }
        same_weights(&host, &device, all);
        same_array(&host, &device, OPTIMIZER_M, all, "first moments");
        same_array(&host, &device, OPTIMIZER_V, all, "second moments");
        if (with_ema) same_array(&host, &device, OPTIMIZER_EMA, all, "moving averages");
        for (int k = 0; k < PARTS; k++) {
            const Param *param = param_table_get(host.table, k);
            const size_t bytes = (size_t)param->count * sizeof *before;
            const bool same = memcmp(before + param->offset, device.store.weights + param->offset, bytes) == 0;
            if (same != (strncmp(param->name, "held", 4) == 0))
                fail_msg("%s is %s", param->name, same ? "held" : "not held");
        }
        mem_free_aligned(before);
        side_close(&host);
        side_close(&device);
    }
}

/* The limit of the norm, and a refusal, reach an update that is recorded. */
static void test_a_recorded_update_heeds_limits(void **state)
{
    const int64_t count = 5003;
    OptimConfig config = article();
    Recording *recording = NULL;
    OptimizerReport report;
    if (!backend) skip();
    Side host = side_open(&config, count, NULL, false), device = side_open(&config, count, backend, true);
    assert_int_equal(backend->device->record_begin(backend), STATUS_OK);
    assert_int_equal(optimizer_queue_update(device.optimizer), STATUS_OK);
    assert_int_equal(backend->device->record_end(backend, &recording), STATUS_OK);
    for (int step = 0; step < 4; step++) {
        fill_grads(device.store.grads, count, step);
        optimizer_limit_norm(device.optimizer, step == 1 ? 1e-3 : INFINITY);
        assert_int_equal(optimizer_begin_step(device.optimizer, step, 0.25), STATUS_OK);
        if (step == 2) assert_int_equal(optimizer_refuse_update(device.optimizer), STATUS_OK);
        assert_int_equal(
            backend->upload(backend, device.store.image->grads, device.store.grads, (size_t)count * sizeof(float)),
            STATUS_OK);
        assert_int_equal(backend->device->replay(backend, recording), STATUS_OK);
        assert_int_equal(backend->device->finish(backend), STATUS_OK);
        optimizer_end_step(device.optimizer, &report);
        assert_int_equal(report.skipped, step == 1 || step == 2 ? UPDATE_OVER_LIMIT : UPDATE_DONE);
        assert_true(report.grad_norm > 1e-3);
        if (report.skipped == UPDATE_DONE) take_step(&host, count, step);
    }
    same_weights(&host, &device, count);
    same_array(&host, &device, OPTIMIZER_EMA, count, "moving averages");
    backend->device->recording_free(backend, recording);
    side_close(&host);
    side_close(&device);
}

/* ---- spans: every other block, as one of two ranks updates it, more of them than one launch takes ---- */

enum { SPAN_BLOCKS = 301, SPAN_ELEMENTS = SPAN_BLOCKS * UPDATE_NORM_BLOCK - 4099 + 6 };

static UpdateValues span_values(void)
{
    return (UpdateValues){.grad_scale = 0.5,
                          .clip_norm = 0.25,
                          .norm_limit = INFINITY,
                          .one_minus_beta1 = 0.1F,
                          .beta2 = 0.99F,
                          .one_minus_beta2 = 0.01F,
                          .inv_root_bc2 = 10,
                          .eps = 1e-8F,
                          .one_minus_ema = 0.125F,
                          .group = {{.keep = 0.999F, .step_size = 1e-2F}}};
}

/* Device buffers of one side. */
typedef struct Buffers {
    float *grads, *weights, *m, *v, *ema;
    uint16_t *half;
    double *sums;
    UpdateValues *values;
    UpdateResult *result;
    int64_t local; /* elements of m, v and ema */
} Buffers;

static void *device_copy(const void *from, size_t bytes)
{
    void *to = backend->alloc(backend, bytes);
    assert_non_null(to);
    if (from) assert_int_equal(backend->upload(backend, to, from, bytes), STATUS_OK);
    return to;
}

static Buffers buffers_open(int64_t local)
{
    const int64_t blocks = update_norm_block_count(SPAN_ELEMENTS), groups = update_norm_group_count(SPAN_ELEMENTS);
    const UpdateValues values = span_values();
    float *host = mem_alloc_aligned(SPAN_ELEMENTS * sizeof *host);
    fill_grads(host, SPAN_ELEMENTS, 1);
    Buffers b = {.local = local, .grads = device_copy(host, SPAN_ELEMENTS * sizeof *host)};
    for (int64_t i = 0; i < SPAN_ELEMENTS; i++) host[i] = (float)cos((double)i);
    b.weights = device_copy(host, SPAN_ELEMENTS * sizeof *host);
    b.m = device_copy(NULL, (size_t)local * sizeof *b.m);
    b.v = device_copy(NULL, (size_t)local * sizeof *b.v);
    b.ema = device_copy(NULL, (size_t)local * sizeof *b.ema);
    b.half = device_copy(NULL, SPAN_ELEMENTS * sizeof *b.half);
    b.sums = device_copy(NULL, (size_t)(blocks + groups) * sizeof *b.sums);
    b.values = device_copy(&values, sizeof values);
    b.result = device_copy(NULL, sizeof *b.result);
    mem_free_aligned(host);
    return b;
}

static void buffers_close(Buffers *b)
{
    void *const all[] = {b->grads, b->weights, b->m, b->v, b->ema, b->half, b->sums, b->values, b->result};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++) backend->free(backend, all[i]);
}

static DeviceUpdate update_of(const Buffers *b, const UpdateSpan *spans, int32_t span_count)
{
    return (DeviceUpdate){.count = SPAN_ELEMENTS,
                          .spans = spans,
                          .span_count = span_count,
                          .grads = b->grads,
                          .weights = b->weights,
                          .m = b->m,
                          .v = b->v,
                          .ema = b->ema,
                          .half = b->half,
                          .sums = b->sums,
                          .values = b->values,
                          .result = b->result};
}

static void *fetched(const void *from, size_t bytes)
{
    void *to = mem_alloc_aligned(bytes);
    assert_int_equal(backend->download(backend, to, from, bytes), STATUS_OK);
    return to;
}

/* Flat elements of the span in one buffer are local ones in the other. */
static void same_elements(const void *whole, const void *part, size_t size, int64_t first, int64_t local, int64_t count)
{
    assert_memory_equal((const char *)whole + (size_t)first * size, (const char *)part + (size_t)local * size,
                        (size_t)count * size);
}

static void same_spans(const Buffers *whole, const Buffers *part, const UpdateSpan *spans, int32_t span_count)
{
    const size_t local_bytes = (size_t)part->local * sizeof(float), bytes = SPAN_ELEMENTS * sizeof(float);
    const float *const wholes[] = {whole->m, whole->v, whole->ema}, *const parts[] = {part->m, part->v, part->ema};
    float *weights = fetched(whole->weights, bytes), *ours = fetched(part->weights, bytes);
    uint16_t *halves = fetched(whole->half, bytes / 2), *our_halves = fetched(part->half, bytes / 2);
    for (int32_t i = 0; i < span_count; i++) {
        same_elements(weights, ours, sizeof(float), spans[i].flat, spans[i].flat, spans[i].count);
        same_elements(halves, our_halves, sizeof(uint16_t), spans[i].flat, spans[i].flat, spans[i].count);
        /* The others' elements are untouched: even blocks belong to the first of two ranks. */
        const int64_t other =
            spans[0].flat == 0 ? spans[i].flat + UPDATE_NORM_BLOCK : spans[i].flat - UPDATE_NORM_BLOCK;
        if (other < SPAN_ELEMENTS) assert_true(ours[other] == (float)cos((double)other));
    }
    for (int a = 0; a < 3; a++) {
        float *all = fetched(wholes[a], bytes), *own = fetched(parts[a], local_bytes);
        for (int32_t i = 0; i < span_count; i++)
            same_elements(all, own, sizeof(float), spans[i].flat, spans[i].local, spans[i].count);
        mem_free_aligned(all);
        mem_free_aligned(own);
    }
    mem_free_aligned(weights);
    mem_free_aligned(ours);
    mem_free_aligned(halves);
    mem_free_aligned(our_halves);
}

static void test_spans_are_parts_of_the_whole(void **state)
{
    const UpdateSpan all = {.count = SPAN_ELEMENTS};
    UpdateSpan spans[2][SPAN_BLOCKS];
    int32_t counts[2] = {0};
    int64_t locals[2] = {0};
    if (!backend) skip();
    for (int64_t flat = 0; flat < SPAN_ELEMENTS; flat += UPDATE_NORM_BLOCK) {
        const int k = (int)(flat / UPDATE_NORM_BLOCK % 2);
        const int64_t left = SPAN_ELEMENTS - flat, count = left < UPDATE_NORM_BLOCK ? left : UPDATE_NORM_BLOCK;
        spans[k][counts[k]++] = (UpdateSpan){.flat = flat, .local = locals[k], .count = count};
        locals[k] += count;
    }
    Buffers whole = buffers_open(SPAN_ELEMENTS), part[2] = {buffers_open(locals[0]), buffers_open(locals[1])};
    const DeviceUpdate update = update_of(&whole, &all, 1);
    assert_int_equal(backend->device->update_norm(backend, &update), STATUS_OK);
    assert_int_equal(backend->device->update_apply(backend, &update), STATUS_OK);
    UpdateResult *theirs = fetched(whole.result, sizeof *theirs);
    assert_true(theirs->clip < 1 && !theirs->skipped);
    /* Two ranks share the place of the sums, as if they had been gathered. */
    DeviceUpdate own[2];
    for (int k = 0; k < 2; k++) {
        own[k] = update_of(&part[k], spans[k], counts[k]);
        own[k].sums = part[0].sums;
        assert_int_equal(backend->device->update_norm(backend, &own[k]), STATUS_OK);
    }
    for (int k = 0; k < 2; k++) {
        assert_int_equal(backend->device->update_apply(backend, &own[k]), STATUS_OK);
        UpdateResult *ours = fetched(part[k].result, sizeof *ours);
        assert_memory_equal(ours, theirs, sizeof *ours);
        mem_free_aligned(ours);
        same_spans(&whole, &part[k], spans[k], counts[k]);
    }
    mem_free_aligned(theirs);
    buffers_close(&whole);
    for (int k = 0; k < 2; k++) buffers_close(&part[k]);
}

static void test_spans_that_are_none_are_refused(void **state)
{
    const UpdateSpan bad[][2] = {{{0, 0, 4096}, {8192, 0, 4096}},    /* on top of each other */
                                 {{0, 0, 4000}, {4096, 4000, 4096}}, /* a short one that is not the last */
                                 {{0, 0, 4096}, {4100, 4096, 4096}}, /* not at a block */
                                 {{0, 0, 4096}, {SPAN_ELEMENTS / UPDATE_NORM_BLOCK * UPDATE_NORM_BLOCK, 4096, 4096}}};
    if (!backend) skip();
    Buffers b = buffers_open(8192);
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        const DeviceUpdate update = update_of(&b, bad[i], 2);
        assert_int_equal(backend->device->update_norm(backend, &update), ERR_INTERNAL);
        assert_int_equal(backend->device->update_apply(backend, &update), ERR_INTERNAL);
    }
    buffers_close(&b);
}

static void test_arrays_are_written_and_read(void **state)
{
    OptimConfig config = article();
    const float three[3] = {1, -2, 3};
    float back[5];
    if (!backend) skip();
    Side side = side_open(&config, 50, backend, false);
    assert_true(optimizer_on_device(side.optimizer));
    assert_int_equal(optimizer_write(side.optimizer, OPTIMIZER_V, 11, 3, three), STATUS_OK);
    assert_int_equal(optimizer_read(side.optimizer, OPTIMIZER_V, 10, 5, back), STATUS_OK);
    assert_memory_equal(back, ((float[]){0, 1, -2, 3, 0}), sizeof back);
    assert_int_equal(optimizer_read(side.optimizer, OPTIMIZER_M, optimizer_elements(side.optimizer), 1, back),
                     ERR_INTERNAL);
    assert_int_equal(optimizer_read(side.optimizer, OPTIMIZER_M, -1, 1, back), ERR_INTERNAL);
    side_close(&side);
}

static void test_a_store_without_an_image_is_refused(void **state)
{
    OptimConfig config = article();
    Optimizer *optimizer = NULL;
    if (!backend) skip();
    Side side = side_open(&config, 50, NULL, false);
    assert_int_equal(optimizer_create(&config, STEPS, &side.store, backend, 1, NULL, &optimizer), ERR_INTERNAL);
    assert_null(optimizer);
    side_close(&side);
}

static int open_device(void **state)
{
    const char *named = getenv("VASILY_CUDA_LIBRARY");
    if (!named || !named[0]) {
        print_message("SKIPPED: VASILY_CUDA_LIBRARY names no CUDA backend\n");
        return 0;
    }
    const Status status = backend_open_cuda(&(BackendOptions){.deterministic = true}, &backend);
    if (status == ERR_UNSUPPORTED) print_message("SKIPPED: %s\n", status_message());
    return status == STATUS_OK || status == ERR_UNSUPPORTED ? 0 : -1;
}

static int close_device(void **state)
{
    if (backend) backend_close(backend);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_bits_are_the_hosts),
        cmocka_unit_test(test_a_recorded_update_is_the_same),
        cmocka_unit_test(test_the_norm_of_many_blocks),
        cmocka_unit_test(test_groups_are_the_hosts),
        cmocka_unit_test(test_a_recorded_update_heeds_limits),
        cmocka_unit_test(test_spans_are_parts_of_the_whole),
        cmocka_unit_test(test_spans_that_are_none_are_refused),
        cmocka_unit_test(test_arrays_are_written_and_read),
        cmocka_unit_test(test_a_store_without_an_image_is_refused),
    };
    return cmocka_run_group_tests(tests, open_device, close_device);
}
