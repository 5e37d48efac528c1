#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "engine/ref/ref.h"

static const Kernel *const table[OP_COUNT] = {
#define OP(NAME, family) [OP_##NAME] = &ref_kernel_##NAME,
#include "engine/ops.def"
#undef OP
};

const Kernel *const *ref_kernels(void)
{
    return table;
}

static bool ref_has_bf16(const Backend *backend)
{
    return false;
}

static void *ref_alloc(Backend *backend, size_t bytes)
{
    return mem_alloc_aligned(bytes);
}

static void ref_free(Backend *backend, void *memory)
{
    mem_free_aligned(memory);
}

static Status ref_copy(Backend *backend, void *to, const void *from, size_t bytes)
{
    memcpy(to, from, bytes);
    return STATUS_OK;
}

static void ref_close(Backend *backend)
{
    free(backend);
}

Status backend_open_ref(const BackendOptions *options, Backend **out)
{
    Status status = STATUS_OK;
    Backend *backend = mem_alloc_array(1, sizeof *backend);
    if (!backend) FAIL(ERR_MEMORY, "no memory for the reference backend");
    backend->name = "ref";
    memcpy(backend->kernel, table, sizeof table);
    backend->threads = 1;
    backend->param_alignment = sizeof(float);
    backend->has_bf16 = ref_has_bf16;
    backend->alloc = ref_alloc;
    backend->free = ref_free;
    backend->upload = ref_copy;
    backend->download = ref_copy;
    backend->close = ref_close;
    *out = backend;
fail:
    return status;
}
