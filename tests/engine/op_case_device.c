#include "op_case_device.h"

#include <stdlib.h>
#include <string.h>

#include "base/arena.h"

enum { BLOCKS = OP_MAX_IN + OP_MAX_OUT, GUARD_BYTE = 0xa5 };
/* Data begins at an odd multiple of 64, as tensors in a slab may, or of what parameters are aligned to. Behind it lies
 * a guard, but under AddressSanitizer, where an emulated device itself finds every access beyond a block. */
#ifdef __SANITIZE_ADDRESS__
enum { BEFORE = 256, BEHIND = 0 };
#else
enum { BEFORE = 256, BEHIND = 256 };
#endif

typedef struct DeviceBlock {
    TensorId root; /* TENSOR_NONE: no tensor's */
    char *block, *data;
    size_t before, size;
} DeviceBlock;

typedef struct DeviceCase {
    CaseRun *run;
    DeviceBlock block[BLOCKS];
    int32_t count;
    DeviceBlock workspace, packed, half[OP_MAX_IN];
} DeviceCase;

static size_t block_bytes(const DeviceBlock *b)
{
    return b->before + b->size + BEHIND;
}

/* Copies the whole block from or to the host, guards included; NULL contents: garbage that is NaN. */
static Status block_upload(Backend *backend, const DeviceBlock *b, const void *contents)
{
    Status status = STATUS_OK;
    char *staged = mem_alloc_array(1, block_bytes(b));
    if (!staged) FAIL(ERR_MEMORY, "no memory for a block of a case");
    memset(staged, GUARD_BYTE, block_bytes(b));
    if (contents) {
        memcpy(staged + b->before, contents, b->size);
    } else {
        memset(staged + b->before, 0xff, b->size);
    }
    TRY(backend->upload(backend, b->block, staged, block_bytes(b)));
fail:
    free(staged);
    return status;
}

static Status block_open(Backend *backend, size_t shift, size_t size, const void *contents, DeviceBlock *out)
{
    Status status = STATUS_OK;
    *out = (DeviceBlock){.root = TENSOR_NONE, .before = BEFORE + shift, .size = size};
    if (size == 0) return STATUS_OK;
    out->block = backend->alloc(backend, block_bytes(out));
    if (!out->block) FAIL(ERR_MEMORY, "no device memory for a case");
    out->data = out->block + out->before;
    TRY(block_upload(backend, out, contents));
fail:
    return status;
}

/* Downloads the data to `to`, where wanted, and looks at the guards. */
static Status block_check(Backend *backend, const DeviceBlock *b, void *to, bool *guards_hold)
{
    Status status = STATUS_OK;
    char *staged = NULL;
    if (!b->block) return STATUS_OK;
    staged = mem_alloc_array(1, block_bytes(b));
    if (!staged) FAIL(ERR_MEMORY, "no memory for a block of a case");
    TRY(backend->download(backend, staged, b->block, block_bytes(b)));
    for (size_t i = 0; i < b->before + BEHIND; i++) {
        const size_t at = i < b->before ? i : i + b->size;
        if ((unsigned char)staged[at] != GUARD_BYTE) *guards_hold = false;
    }
    if (to) memcpy(to, staged + b->before, b->size);
fail:
    free(staged);
    return status;
}

static DeviceBlock *block_of(DeviceCase *d, TensorId id)
{
    for (int32_t i = 0; i < d->count; i++) {
        if (d->block[i].root == graph_root(d->run->c->graph, id)) return &d->block[i];
    }
    return NULL;
}

static Status operand_open(DeviceCase *d, TensorId id)
{
    Status status = STATUS_OK;
    const Graph *graph = d->run->c->graph;
    const size_t alignment = d->run->backend->param_alignment;
    if (id == TENSOR_NONE || block_of(d, id)) return STATUS_OK;
    const TensorId root = graph_root(graph, id);
    const size_t shift = graph_tensor(graph, root)->kind == TENSOR_PARAM ? alignment : 64;
    DeviceBlock *b = &d->block[d->count++];
    TRY(block_open(d->run->backend, shift, case_bytes(d->run, root), case_run_data(d->run, root), b));
    b->root = root;
fail:
    return status;
}

static Status device_open(CaseRun *run, const Op *op, const Prepared *prepared, DeviceCase *d)
{
    Status status = STATUS_OK;
    for (int32_t k = 0; k < op->in_count; k++) TRY(operand_open(d, op->in[k]));
    for (int32_t k = 0; k < op->out_count; k++) TRY(operand_open(d, op->out[k]));
    TRY(block_open(run->backend, 0, prepared->workspace_bytes, NULL, &d->workspace));
    TRY(block_open(run->backend, 0, prepared->packed_bytes, NULL, &d->packed));
fail:
    return status;
}

static void device_close(DeviceCase *d)
{
    Backend *backend = d->run->backend;
    for (int32_t i = 0; i < d->count; i++) backend->free(backend, d->block[i].block);
    for (int32_t k = 0; k < OP_MAX_IN; k++) backend->free(backend, d->half[k].block);
    backend->free(backend, d->workspace.block);
    backend->free(backend, d->packed.block);
}

static Status outputs_equal(DeviceCase *d, const Op *op, bool *equal, bool *guards_hold)
{
    Status status = STATUS_OK;
    char *bytes = NULL;
    for (int32_t k = 0; k < op->out_count; k++) {
        if (op->out[k] == TENSOR_NONE) continue;
        const DeviceBlock *b = block_of(d, op->out[k]);
        free(bytes);
        bytes = mem_alloc_array(1, b->size);
        if (!bytes) FAIL(ERR_MEMORY, "no memory for an output of a case");
        TRY(block_check(d->run->backend, b, bytes, guards_hold));
        if (memcmp(bytes, case_run_data(d->run, b->root), b->size) != 0) *equal = false;
    }
fail:
    free(bytes);
    return status;
}

/* Everything downloaded: what was only read must be as it was. */
static Status download_all(DeviceCase *d, bool *guards_hold)
{
    Status status = STATUS_OK;
    for (int32_t i = 0; i < d->count; i++) {
        const DeviceBlock *b = &d->block[i];
        TRY(block_check(d->run->backend, b, case_run_data(d->run, b->root), guards_hold));
    }
    TRY(block_check(d->run->backend, &d->workspace, NULL, guards_hold));
    TRY(block_check(d->run->backend, &d->packed, NULL, guards_hold));
fail:
    return status;
}

/* Runs with bf16 copies of parameters instead of packed weights; the mirrors hold what those gave. */
static Status run_with_halves(DeviceCase *d, const Kernel *kernel, KernelCall *call, bool *equal, bool *guards_hold)
{
    Status status = STATUS_OK;
    const Graph *graph = d->run->c->graph;
    Backend *backend = d->run->backend;
    for (int32_t k = 0; k < call->op->in_count; k++) {
        const TensorId in = call->op->in[k];
        if (in == TENSOR_NONE || graph_tensor(graph, graph_root(graph, in))->kind != TENSOR_PARAM) continue;
        const int64_t count = case_count(d->run, in);
        TRY(block_open(backend, 64, (size_t)count * sizeof(uint16_t), NULL, &d->half[k]));
        TRY(backend->device->halve(backend, (uint16_t *)(void *)d->half[k].data, call->in[k], count));
        call->half[k] = (const uint16_t *)(const void *)d->half[k].data;
    }
    call->packed = NULL;
    TRY(kernel->run(call));
    TRY(backend->device->finish(backend));
    TRY(outputs_equal(d, call->op, equal, guards_hold));
fail:
    return status;
}

static KernelCall call_of(DeviceCase *d, const Op *op, const Prepared *prepared, uint32_t accumulate)
{
    KernelCall call = {.graph = d->run->c->graph,
                       .op = op,
                       .state = prepared->state,
                       .accumulate = accumulate,
                       .workspace = d->workspace.data,
                       .packed = d->packed.data};
    for (int32_t k = 0; k < op->in_count; k++) {
        if (op->in[k] != TENSOR_NONE) call.in[k] = block_of(d, op->in[k])->data;
    }
    for (int32_t k = 0; k < op->out_count; k++) {
        if (op->out[k] != TENSOR_NONE) call.out[k] = block_of(d, op->out[k])->data;
    }
    return call;
}

Status case_run_op_device(CaseRun *run, const Op *op, const Kernel *kernel, const Prepared *prepared,
                          uint32_t accumulate, bool *guards_hold)
{
    Status status = STATUS_OK;
    Backend *backend = run->backend;
    DeviceCase with_packed = {.run = run}, with_halves = {.run = run};
    bool equal = true;
    TRY(device_open(run, op, prepared, &with_packed));
    /* A second set of blocks, while the mirrors still hold what the op begins with. */
    if (prepared->packs_halves) TRY(device_open(run, op, prepared, &with_halves));
    KernelCall call = call_of(&with_packed, op, prepared, accumulate);
    *guards_hold = true;
    if (kernel->pack && call.packed) TRY(kernel->pack(&call));
    TRY(kernel->run(&call));
    TRY(backend->device->finish(backend));
    TRY(download_all(&with_packed, guards_hold));
    if (prepared->packs_halves) {
        call = call_of(&with_halves, op, prepared, accumulate);
        TRY(run_with_halves(&with_halves, kernel, &call, &equal, guards_hold));
        if (!equal) FAIL(ERR_MISMATCH, "bf16 copies of parameters give other bits than packed weights");
    }
fail:
    device_close(&with_packed);
    device_close(&with_halves);
    return status;
}
