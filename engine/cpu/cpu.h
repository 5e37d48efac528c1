/* What the kernels of the CPU backend share. Each file of kernels has the name of its op family (engine/ops.def). */
#ifndef ENGINE_CPU_CPU_H
#define ENGINE_CPU_CPU_H

#include "base/bf16.h"
#include "engine/backend.h"
#include "engine/cpu/vector.h"

/* Backend.context. */
typedef struct Cpu {
    int32_t threads;
    bool bf16;     /* oneDNN computes in bf16; if not, bf16 operands are widened around fp32 primitives */
    bool winograd; /* fp32 convolutions may take Winograd's form; VASILY_WINOGRAD=0 in the environment says no */
    const VectorKernels *vector;
} Cpu;

static inline const Cpu *cpu_of(const Backend *backend)
{
    return backend->context;
}

/* Makes oneDNN use the backend's number of threads: before a primitive is made and before it runs, for the number is a
 * property of the calling thread. */
void cpu_use_threads(const Cpu *cpu);
void cpu_use_one_thread(void); /* for primitives that will run inside cpu_parallel */

/* Calls body(context, begin, end, thread) with consecutive shares of [0, count), one a thread of [0, cpu->threads). The
 * shares depend on count and cpu->threads alone, so results do not depend on timing. When count < grain the caller's
 * thread does all of it. The first failure is returned. */
Status cpu_parallel(const Cpu *cpu, int64_t count, int64_t grain,
                    Status (*body)(void *context, int64_t begin, int64_t end, int32_t thread), void *context);
/* The part-th of `parts` shares. */
void cpu_share(int64_t count, int64_t parts, int64_t part, int64_t *begin, int64_t *end);
/* Element counts below which starting threads costs more than it saves. */
#define CPU_GRAIN 16384

/* A workspace is carved twice by the same code: with a NULL base to learn its size, then for addresses. */
typedef struct Carver {
    char *base;
    size_t used;
} Carver;
void *carve(Carver *carver, int64_t count, size_t size); /* 64-byte aligned */
static inline float *carve_floats(Carver *carver, int64_t count)
{
    return carve(carver, count, sizeof(float));
}

/* Whole-tensor kernels on all threads. */
void cpu_copy(const Cpu *cpu, const void *x, Dtype x_type, void *y, Dtype y_type, int64_t count, bool add);
void cpu_add(const Cpu *cpu, const void *a, const void *b, void *y, Dtype type, int64_t count, bool accumulate);

/* out[c] = or += the sum of column c of x (rows, c). `partial`: threads * c floats of workspace. */
void cpu_column_sums(const Cpu *cpu, const void *x, Dtype type, int64_t rows, int64_t c, float *out, bool add,
                     float *partial);

/* An operand of a call. */
static inline const Tensor *cpu_in(const KernelCall *call, int i)
{
    return graph_tensor(call->graph, call->op->in[i]);
}
static inline const Tensor *cpu_out(const KernelCall *call, int k)
{
    return graph_tensor(call->graph, call->op->out[k]);
}
static inline bool cpu_adds(const KernelCall *call, int k)
{
    return (call->accumulate >> k & 1u) != 0;
}
/* Shape and type of an operand while preparing; NULL when absent. */
static inline const Tensor *cpu_operand(const Graph *graph, TensorId id)
{
    return id == TENSOR_NONE ? NULL : graph_tensor(graph, id);
}
static inline float cpu_get(const void *data, Dtype type, int64_t i)
{
    return type == DTYPE_F32 ? ((const float *)data)[i] : bf16_to_f32(((const Bf16 *)data)[i]);
}
static inline void cpu_put(void *data, Dtype type, int64_t i, float value, bool add)
{
    if (add) value += cpu_get(data, type, i);
    if (type == DTYPE_F32) {
        ((float *)data)[i] = value;
    } else {
        ((Bf16 *)data)[i] = bf16_from_f32(value);
    }
}
static inline void *cpu_at(const void *data, Dtype type, int64_t i)
{
    union {
        const char *in;
        void *out;
    } at = {(const char *)data + (size_t)i * dtype_size(type)};
    return at.out;
}

/* Prepare for kernels whose only state is the Cpu. */
Status cpu_prepare_plain(Backend *backend, const Graph *graph, const Op *op, Prepared *out);
static inline const Cpu *cpu_of_call(const KernelCall *call)
{
    return call->state;
}

extern const Kernel cpu_kernel_CONV2D, cpu_kernel_CONV2D_GRAD_X, cpu_kernel_CONV2D_GRAD_W;
extern const Kernel cpu_kernel_LINEAR, cpu_kernel_LINEAR_GRAD_X, cpu_kernel_LINEAR_GRAD_W;
extern const Kernel cpu_kernel_GROUP_NORM, cpu_kernel_GROUP_NORM_GRAD;
extern const Kernel cpu_kernel_LAYER_NORM, cpu_kernel_LAYER_NORM_GRAD, cpu_kernel_RMS_NORM;
extern const Kernel cpu_kernel_ATTENTION, cpu_kernel_ATTENTION_GRAD;
extern const Kernel cpu_kernel_CROSS_ATTENTION, cpu_kernel_CROSS_ATTENTION_GRAD;
extern const Kernel cpu_kernel_ACTIVATION, cpu_kernel_ACTIVATION_GRAD, cpu_kernel_ADD, cpu_kernel_MULTIPLY;
extern const Kernel cpu_kernel_AFFINE, cpu_kernel_AFFINE_GRAD, cpu_kernel_CAST, cpu_kernel_ROUND;
extern const Kernel cpu_kernel_RESAMPLE, cpu_kernel_RESAMPLE_GRAD;
extern const Kernel cpu_kernel_CONCAT, cpu_kernel_SLICE, cpu_kernel_SLICE_GRAD;
extern const Kernel cpu_kernel_EMBEDDING, cpu_kernel_MASKED_MEAN, cpu_kernel_RELATIVE_BIAS;
extern const Kernel cpu_kernel_POSTERIOR_SAMPLE, cpu_kernel_INPAINT_INPUT;
extern const Kernel cpu_kernel_NOISE, cpu_kernel_Q_SAMPLE, cpu_kernel_DIFFUSION_LOSS, cpu_kernel_DIFFUSION_LOSS_GRAD;

#endif
