/* The CPU backend: the reference table with everything that takes time replaced. */
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/file.h"
#include "engine/cpu/cpu.h"
#include "engine/cpu/onednn.h"

/* TIMESTEP_EMBEDDING, a few thousand cosines a step, and POSITION_IDS, a few additions, stay with ref. */
#define KERNEL(NAME) [OP_##NAME] = &cpu_kernel_##NAME
static const Kernel *const OVERRIDES[OP_COUNT] = {KERNEL(CONV2D),
                                                  KERNEL(CONV2D_GRAD_X),
                                                  KERNEL(CONV2D_GRAD_W),
                                                  KERNEL(LINEAR),
                                                  KERNEL(LINEAR_GRAD_X),
                                                  KERNEL(LINEAR_GRAD_W),
                                                  KERNEL(GROUP_NORM),
                                                  KERNEL(GROUP_NORM_GRAD),
                                                  KERNEL(LAYER_NORM),
                                                  KERNEL(LAYER_NORM_GRAD),
                                                  KERNEL(RMS_NORM),
                                                  KERNEL(ATTENTION),
                                                  KERNEL(ATTENTION_GRAD),
                                                  KERNEL(CROSS_ATTENTION),
                                                  KERNEL(CROSS_ATTENTION_GRAD),
                                                  KERNEL(ACTIVATION),
                                                  KERNEL(ACTIVATION_GRAD),
                                                  KERNEL(ADD),
                                                  KERNEL(MULTIPLY),
                                                  KERNEL(AFFINE),
                                                  KERNEL(AFFINE_GRAD),
                                                  KERNEL(CAST),
                                                  KERNEL(ROUND),
                                                  KERNEL(RESAMPLE),
                                                  KERNEL(RESAMPLE_GRAD),
                                                  KERNEL(CONCAT),
                                                  KERNEL(SLICE),
                                                  KERNEL(SLICE_GRAD),
                                                  KERNEL(EMBEDDING),
                                                  KERNEL(MASKED_MEAN),
                                                  KERNEL(RELATIVE_BIAS),
                                                  KERNEL(NOISE),
                                                  KERNEL(POSTERIOR_SAMPLE),
                                                  KERNEL(Q_SAMPLE),
                                                  KERNEL(INPAINT_INPUT),
                                                  KERNEL(DIFFUSION_LOSS),
                                                  KERNEL(DIFFUSION_LOSS_GRAD)};

/* OMP_NUM_THREADS, or the processors this process may use. */
static int32_t default_threads(void)
{
    const char *told = getenv("OMP_NUM_THREADS");
    const long number = told ? strtol(told, NULL, 10) : 0;
    if (number > 0 && number <= 4096) return (int32_t)number;
    cpu_set_t set;
    CPU_ZERO(&set);
    return sched_getaffinity(0, sizeof set, &set) == 0 && CPU_COUNT(&set) > 0 ? (int32_t)CPU_COUNT(&set) : 1;
}

static bool has_bf16(const Backend *backend)
{
    return cpu_of(backend)->bf16;
}

static void *host_alloc(Backend *backend, size_t bytes)
{
    return mem_alloc_aligned(bytes);
}

static void host_free(Backend *backend, void *memory)
{
    mem_free_aligned(memory);
}

static Status host_copy(Backend *backend, void *to, const void *from, size_t bytes)
{
    memcpy(to, from, bytes);
    return STATUS_OK;
}

/* The processor's name as the kernel tells it, without runs of spaces. */
static void processor_name(char *out, size_t capacity)
{
    char *text = NULL;
    size_t size = 0, used = 0;
    snprintf(out, capacity, "unknown processor");
    if (file_read("/proc/cpuinfo", (size_t)1 << 24, &text, &size) != STATUS_OK) return;
    const char *at = strstr(text, "model name");
    at = at ? strchr(at, ':') : NULL;
    for (at = at ? at + 1 : "\n"; *at != '\0' && *at != '\n' && used + 1 < capacity; at++)
        if (*at != ' ' || (used > 0 && out[used - 1] != ' ')) out[used++] = *at;
    if (used > 0) out[used] = '\0';
    free(text);
}

static void describe(const Backend *backend, char *out, size_t capacity)
{
    const Cpu *cpu = cpu_of(backend);
    char name[128];
    int version[3];
    processor_name(name, sizeof name);
    dnn_version(version);
    snprintf(out, capacity, "cpu: %s, %d thread%s, %s kernels, oneDNN %d.%d.%d on %s, %s bf16%s", name, cpu->threads,
             cpu->threads == 1 ? "" : "s", cpu->vector->name, version[0], version[1], version[2], dnn_isa_name(),
             cpu->bf16 ? "native" : "no native", cpu->winograd ? "" : ", no Winograd");
}

/* The best of repeated products of two square matrices, after one to warm up. */
static Status matmul_peak(Backend *backend, Dtype dtype, double *flops_per_second)
{
    enum { SIDE = 2048 };
    Status status = STATUS_OK;
    const Cpu *cpu = cpu_of(backend);
    DnnPrimitive *primitive = NULL;
    void *a = NULL, *b = NULL, *c = NULL, *scratchpad = NULL;
    const double flops = 2.0 * SIDE * SIDE * SIDE;
    double best = 0;
    if (dtype == DTYPE_BF16 && !cpu->bf16) FAIL(ERR_UNSUPPORTED, "this processor has no bf16 arithmetic");
    const DnnType type = dtype == DTYPE_BF16 ? DNN_BF16 : DNN_F32;
    const DnnTensor square = {type, 2, {SIDE, SIDE}, {SIDE, 1}};
    cpu_use_threads(cpu);
    TRY(dnn_create(
        &(DnnSpec){.kind = DNN_MATMUL, .src = square, .weights = square, .dst = square, .pack_weights = true},
        &primitive));
    const size_t bytes = (size_t)SIDE * SIDE * sizeof(float);
    a = mem_alloc_aligned(bytes);
    b = mem_alloc_aligned(bytes + dnn_packed_bytes(primitive));
    c = mem_alloc_aligned(bytes);
    scratchpad = mem_alloc_aligned(dnn_scratchpad_bytes(primitive) + 64);
    if (!a || !b || !c || !scratchpad) FAIL(ERR_MEMORY, "no memory to measure the matrix product");
    const double begin = clock_seconds();
    for (int runs = 0; runs < 4 || clock_seconds() < begin + 1.0; runs++) {
        const double start = clock_seconds();
        TRY(dnn_run(primitive, &(DnnArgs){.src = a, .weights = b, .dst = c, .scratchpad = scratchpad}));
        const double rate = flops / (clock_seconds() - start);
        if (runs > 0 && rate > best) best = rate;
    }
    *flops_per_second = best;
fail:
    mem_free_aligned(a);
    mem_free_aligned(b);
    mem_free_aligned(c);
    mem_free_aligned(scratchpad);
    dnn_free(primitive);
    return status;
}

static void close_backend(Backend *backend)
{
    free(backend->context);
    free(backend);
}

Status backend_open_cpu(const BackendOptions *options, Backend **out)
{
    Status status = STATUS_OK;
    Cpu *cpu = NULL;
    Backend *backend = mem_alloc_array(1, sizeof *backend);
    if (!backend) FAIL(ERR_MEMORY, "no memory for the CPU backend");
    cpu = mem_alloc_array(1, sizeof *cpu);
    if (!cpu) FAIL(ERR_MEMORY, "no memory for the CPU backend");
    cpu->threads = options && options->threads > 0 ? options->threads : default_threads();
    cpu->bf16 = dnn_has_bf16();
    cpu->vector = vector_kernels();
    const char *winograd = getenv("VASILY_WINOGRAD");
    cpu->winograd = !winograd || strcmp(winograd, "0") != 0;
    *backend = (Backend){.name = "cpu",
                         .threads = cpu->threads,
                         .param_alignment = dnn_alignment(),
                         .context = cpu,
                         .has_bf16 = has_bf16,
                         .alloc = host_alloc,
                         .free = host_free,
                         .upload = host_copy,
                         .download = host_copy,
                         .matmul_peak = matmul_peak,
                         .describe = describe,
                         .close = close_backend};
    memcpy(backend->kernel, ref_kernels(), sizeof backend->kernel);
    for (int i = 0; i < OP_COUNT; i++)
        if (OVERRIDES[i]) backend->kernel[i] = OVERRIDES[i];
    *out = backend;
    return STATUS_OK;
fail:
    free(cpu);
    free(backend);
    return status;
}
