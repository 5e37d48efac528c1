/* Backends: tables of kernels chosen at run time.
 *
 *   ref   plain C, every op; F32 and BF16 storage, fp32 arithmetic with fp64 sums: the oracle
 *   cpu   starts as a copy of ref's table and overrides (oneDNN, vector kernels picked by the processor's features)
 *   cuda  a shared object opened at run time when present
 *
 * A kernel is prepared once for one op of one graph (fixed shapes), before anything runs; it tells then how much
 * workspace and packed-weight memory it wants. `run` allocates nothing. */
#ifndef ENGINE_BACKEND_H
#define ENGINE_BACKEND_H

#include "base/status.h"
#include "engine/graph.h"

typedef struct Backend Backend;

typedef struct BackendOptions {
    int32_t
        threads; /* 0: OMP_NUM_THREADS, or all processors this process may use; ranks of one machine must share them */
} BackendOptions;

/* What a prepared kernel needs and keeps. */
typedef struct Prepared {
    void *state;            /* the kernel's own; released by Kernel.release */
    size_t workspace_bytes; /* scratch during run and pack; one block shared by all ops of the plan */
    size_t packed_bytes;    /* memory for weights in the kernel's own format; filled by Kernel.pack, read by run; it is
                               kept from run to run, or packed anew before each (PlanPack), with the same results */
    const char *detail;     /* for tables: e.g. oneDNN's implementation name; may be NULL; lives as long as state */
} Prepared;

typedef struct KernelCall {
    const Graph *graph;
    const Op *op;
    void *state;
    void *in[OP_MAX_IN];   /* NULL where absent */
    void *out[OP_MAX_OUT]; /* NULL where not wanted */
    uint32_t accumulate;   /* bit k: add to out[k] (op.accumulate, plus the micro-batch flag for parameter gradients) */
    void *workspace;       /* 64-byte aligned */
    void *packed;          /* 64-byte aligned; apart from the workspace */
} KernelCall;

typedef struct Kernel {
    Status (*prepare)(Backend *backend, const Graph *graph, const Op *op, Prepared *out); /* NULL: needs nothing */
    /* Converts the op's fp32 weights (call->in as for run) into call->packed. NULL: packed_bytes is 0. */
    Status (*pack)(const KernelCall *call);
    Status (*run)(const KernelCall *call);
    void (*release)(void *state); /* NULL: nothing to release */
} Kernel;

struct Backend {
    const char *name;
    const Kernel *kernel[OP_COUNT]; /* NULL: this backend has none, an error when planned */
    int32_t threads;
    size_t param_alignment; /* of the addresses of parameters that kernels read, bytes; bound ones (param_store_bind)
                               that are not there are copied */
    void *context;          /* the backend's own */
    bool (*has_bf16)(const Backend *backend); /* native matrix arithmetic in bf16 */
    /* Memory the kernels can reach, zeroed, 64-byte aligned; and copies to and from the host. */
    void *(*alloc)(Backend *backend, size_t bytes);
    void (*free)(Backend *backend, void *memory);
    Status (*upload)(Backend *backend, void *to, const void *from, size_t bytes);
    Status (*download)(Backend *backend, void *to, const void *from, size_t bytes);
    /* The best rate of a large square matrix product in `dtype` (F32 or BF16), measured now for about a second; what
     * `vasily bench step` holds a training step against. NULL: not measurable. ERR_UNSUPPORTED without such arithmetic.
     */
    Status (*matmul_peak)(Backend *backend, Dtype dtype, double *flops_per_second);
    void (*describe)(const Backend *backend, char *out, size_t capacity); /* what backend_describe prints */
    void (*close)(Backend *backend);
};

Status backend_open_ref(const BackendOptions *options, Backend **out);
Status backend_open_cpu(const BackendOptions *options, Backend **out);
/* "auto", "cpu", "ref" or "cuda"; logs one line that says what is used and why. */
Status backend_open(const char *device, const BackendOptions *options, Backend **out);
void backend_close(Backend *backend);
/* One line: processor, instruction set, threads, library versions. */
void backend_describe(const Backend *backend, char *out, size_t capacity);

/* The table of the reference kernels, for backends that start from it. */
const Kernel *const *ref_kernels(void);

#endif
