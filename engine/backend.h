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
#include "engine/update.h"

typedef struct Backend Backend;

typedef struct BackendOptions {
    int32_t
        threads; /* 0: OMP_NUM_THREADS, or all processors this process may use; ranks of one machine must share them */
    int32_t local_rank;     /* this process among those of this machine: which of its devices it takes */
    bool deterministic;     /* devices: only algorithms that give the same bits every time */
    const char *cache;      /* devices: folder where choices of algorithms are kept between runs; NULL: nowhere */
    const char *properties; /* devices: plan for the one that this file describes (configs/machines/), whether there is
                               one or not; nothing can be allocated or run. NULL: the device itself */
} BackendOptions;

/* What a prepared kernel needs and keeps. */
typedef struct Prepared {
    void *state;            /* the kernel's own; released by Kernel.release */
    size_t workspace_bytes; /* scratch during run and pack; one block shared by all ops of the plan */
    size_t packed_bytes;    /* memory for weights in the kernel's own format; filled by Kernel.pack, read by run; it is
                               kept from run to run, or packed anew before each (PlanPack), with the same results */
    const char *detail;     /* for tables: e.g. oneDNN's implementation name; may be NULL; lives as long as state */
    bool packs_halves; /* the packed form is no more than bf16 copies of parameters: where KernelCall.half has those,
                          neither packed memory nor pack is wanted */
} Prepared;

typedef struct KernelCall {
    const Graph *graph;
    const Op *op;
    void *state;
    void *in[OP_MAX_IN];             /* NULL where absent */
    void *out[OP_MAX_OUT];           /* NULL where not wanted */
    const uint16_t *half[OP_MAX_IN]; /* bf16 copies of inputs that are parameters, as DeviceOps.update keeps them beside
                                        the fp32 ones; NULL: none, or not a parameter */
    uint32_t accumulate; /* bit k: add to out[k] (op.accumulate, plus the micro-batch flag for parameter gradients) */
    void *workspace;     /* 64-byte aligned, on a device 256 */
    void *packed;        /* likewise; apart from the workspace */
} KernelCall;

typedef struct Kernel {
    Status (*prepare)(Backend *backend, const Graph *graph, const Op *op, Prepared *out); /* NULL: needs nothing */
    /* Converts the op's fp32 weights (call->in as for run) into call->packed. NULL: packed_bytes is 0. */
    Status (*pack)(const KernelCall *call);
    Status (*run)(const KernelCall *call);
    void (*release)(void *state); /* NULL: nothing to release */
} Kernel;

/* What a device adds that has memory and a queue of its own. Kernels, copies and updates are queued and run in the
 * order in which they were, while the host goes on; `upload` and `download` wait for all that was queued before them.
 */
typedef struct Recording Recording;

/* Collectives between the devices of several ranks, one communicator for each set of ranks: NCCL's. They are queued on
 * a queue of their own, beside what computes; events order the two (`fork`, `mark`, `join`). All ranks of a
 * communicator queue the same collectives in the same order. They may be recorded.
 *
 * Buffers of reduce_scatter and all_gather are in place: `count` elements, a multiple of the communicator's ranks, of
 * which the rank's own share, count / ranks of them, is read or written where it lies. */
typedef struct DeviceComm DeviceComm;
#define DEVICE_COMM_ID_BYTES 128
#define DEVICE_IDENTITY_BYTES 64
typedef enum DeviceNumber { DEVICE_F32, DEVICE_BF16, DEVICE_F64 } DeviceNumber;
typedef struct DeviceCollectives {
    const char *(*version)(void); /* "NCCL 2.28.9" */
    /* Text that no other device in the world has, zeros behind it. */
    Status (*identity)(Backend *backend, char out[DEVICE_IDENTITY_BYTES]);
    /* One rank makes an id, all open with it. */
    Status (*make_id)(Backend *backend, uint8_t id[DEVICE_COMM_ID_BYTES]);
    Status (*open)(Backend *backend, const uint8_t id[DEVICE_COMM_ID_BYTES], int rank, int ranks, DeviceComm **out);
    /* NULL is fine; not collective after a failure. Recordings of its collectives have been freed. */
    void (*close)(Backend *backend, DeviceComm *comm);
    Status (*reduce_scatter)(Backend *backend, DeviceComm *comm, void *data, int64_t count, DeviceNumber type);
    Status (*all_gather)(Backend *backend, DeviceComm *comm, void *data, int64_t count, DeviceNumber type);
    Status (*all_reduce)(Backend *backend, DeviceComm *comm, void *data, int64_t count, DeviceNumber type);
    Status (*begin_batch)(Backend *backend); /* collectives up to end_batch are launched together */
    Status (*end_batch)(Backend *backend);
    /* On the collectives' queue, for BF16 on the wire. */
    Status (*narrow)(Backend *backend, uint16_t *to, const float *from, int64_t count);
    Status (*widen)(Backend *backend, float *to, const uint16_t *from, int64_t count);
    Status (*fork)(Backend *backend); /* collectives queued from now on wait for all that was queued to compute */
    Status (*mark)(Backend *backend, int32_t k); /* mark k of [0, marks): the collectives queued so far */
    Status (*join)(Backend *backend, int32_t k); /* what computes from now on waits for mark k */
    Status (*marks_reserve)(Backend *backend, int32_t marks);
    /* Seconds that computing stood still in joins since the last call; once finished. */
    Status (*exposed_seconds)(Backend *backend, double *seconds);
} DeviceCollectives;

typedef struct DeviceOps {
    bool planned; /* described by BackendOptions.properties, and so elsewhere: nothing can run, and this host's memory
                     says nothing about that one's */
    Status (*finish)(Backend *backend); /* waits until everything queued is done; reports what failed meanwhile */
    /* Page-locked host memory, which copies that do not wait need. Zeroed, 64-byte aligned. */
    void *(*host_alloc)(Backend *backend, size_t bytes);
    void (*host_free)(Backend *backend, void *memory);
    /* Queued copies: within the device, and to page-locked memory (there once `finish` has returned). */
    Status (*copy)(Backend *backend, void *to, const void *from, size_t bytes);
    Status (*fetch)(Backend *backend, void *host, const void *from, size_t bytes);
    Status (*halve)(Backend *backend, uint16_t *to, const float *from, int64_t count); /* to bf16 */

    /* Sending from page-locked memory beside what computes: `send` queues a copy on a second queue. What is queued
     * after `sent` waits for all sends so far; sends after `consumed` wait for all that was queued so far. */
    Status (*send)(Backend *backend, void *to, const void *host, size_t bytes);
    Status (*sent)(Backend *backend);
    Status (*consumed)(Backend *backend);
    Status (*sent_wait)(Backend *backend); /* the host waits for its sends: their memory may be written again */

    /* Between begin and end work is noted instead of done; replaying queues all of it at once. It must not depend on
     * anything the host changes between replays, but for what is copied from memory. Recordings do not nest. After a
     * failure in between, end is called with NULL. */
    Status (*record_begin)(Backend *backend);
    Status (*record_end)(Backend *backend, Recording **out);
    Status (*replay)(Backend *backend, Recording *recording);
    void (*recording_free)(Backend *backend, Recording *recording); /* NULL is fine */

    /* Times in the queue: mark k of [0, marks); seconds between two of them, once finished. */
    Status (*marks_reserve)(Backend *backend, int32_t marks);
    Status (*mark)(Backend *backend, int32_t k);
    Status (*mark_seconds)(Backend *backend, int32_t from, int32_t to, double *seconds);

    /* The update in two parts, both queued. `update_norm`: the squares of the spans' blocks into `sums`.
     * `update_apply`: norm of all blocks, clipping or skipping, AdamW, EMA and bf16 copy of the spans. With all
     * elements in the spans one follows the other; with a share of them, the other ranks' block sums are gathered in
     * between. */
    Status (*update_norm)(Backend *backend, const DeviceUpdate *update);
    Status (*update_apply)(Backend *backend, const DeviceUpdate *update);
    /* Queued: a hash of `count` 32-bit words (engine/weight_hash.h) into *out, of the device's memory. */
    Status (*hash)(Backend *backend, const void *words, int64_t count, uint64_t first, uint64_t *out);

    const DeviceCollectives *collectives; /* NULL: this build has none */

    Status (*memory)(Backend *backend, int64_t *free, int64_t *total); /* bytes of the device */
    int64_t reserve; /* of the free bytes, what libraries, loaded kernels and recordings will still want: no plan may
                        count on it */
    Status (*copy_peak)(Backend *backend, double *bytes_per_second); /* read and written, measured now */
    Status (*properties)(Backend *backend, char **json); /* its description, as BackendOptions.properties takes it in a
                                                            file; the caller frees */
    double matmul_nominal;                               /* dense bf16 FLOP/s that its maker states; 0: not known */
} DeviceOps;

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
    const DeviceOps *device; /* NULL: kernels read and write host memory, and are done when run returns */
    void (*describe)(const Backend *backend, char *out, size_t capacity); /* what backend_describe prints */
    void (*close)(Backend *backend);
};

Status backend_open_ref(const BackendOptions *options, Backend **out);
Status backend_open_cpu(const BackendOptions *options, Backend **out);
/* The CUDA backend, from libvasily_cuda.so: the file that VASILY_CUDA_LIBRARY names, or the one beside this program, or
 * the one the loader finds. ERR_UNSUPPORTED says what is missing: that file, a library it needs, the driver, a device.
 */
Status backend_open_cuda(const BackendOptions *options, Backend **out);
/* Whether trying is worth while: there is a driver, or VASILY_CUDA_LIBRARY is set. CUDA's libraries take a second to
 * load. */
bool backend_cuda_is_likely(void);
/* What libvasily_cuda.so defines, as vasily_cuda_open; BACKEND_PLUGIN_VERSION must be its vasily_cuda_version. */
#define BACKEND_PLUGIN_VERSION 3
typedef Status BackendOpen(const BackendOptions *options, Backend **out);
/* "auto", "cpu", "ref" or "cuda"; logs one line that says what is used and why. */
Status backend_open(const char *device, const BackendOptions *options, Backend **out);
void backend_close(Backend *backend);
/* Bytes that a plan may still take where this backend computes: of the host (engine/memory.h), or of the device without
 * its reserve. */
int64_t backend_memory_available(Backend *backend);
/* One line: processor, instruction set, threads, library versions. */
void backend_describe(const Backend *backend, char *out, size_t capacity);

/* The table of the reference kernels, for backends that start from it. */
const Kernel *const *ref_kernels(void);

#endif
