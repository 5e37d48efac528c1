/* Settings, errors, the one device there is, and launches. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "runtime.h"

namespace
{

uint64_t number(const char *name, uint64_t otherwise)
{
    const char *text = getenv(name);
    return text && text[0] ? strtoull(text, nullptr, 10) : otherwise;
}

EmuSettings read_settings()
{
    EmuSettings s = {EMU_FORWARD,
                     number("VASILY_EMU_SEED", 1),
                     (int)number("VASILY_EMU_LAZY", 0),
                     (size_t)number("VASILY_EMU_MEMORY", (uint64_t)4 << 30),
                     number("VASILY_EMU_HOST_POINTERS", 0) != 0,
                     number("VASILY_EMU_OPEN", 0) != 0};
    const char *schedule = getenv("VASILY_EMU_SCHEDULE");
    if (!schedule || !schedule[0] || strcmp(schedule, "forward") == 0) return s;
    if (strcmp(schedule, "reverse") != 0 && strcmp(schedule, "random") != 0) {
        fprintf(stderr, "VASILY_EMU_SCHEDULE is %s; forward, reverse and random are known\n", schedule);
        abort();
    }
    s.schedule = strcmp(schedule, "reverse") == 0 ? EMU_REVERSE : EMU_RANDOM;
    return s;
}

const EmuSettings settings = read_settings();
std::recursive_mutex api_lock;
thread_local cudaError_t last_error;
std::map<const void *, size_t> shared_limits;
uint64_t launches;

const size_t shared_default = 48 * 1024, shared_most = 227 * 1024;
const int threads_most = 1024;

} // namespace

namespace emu
{

Lock::Lock()
{
    api_lock.lock();
}

Lock::~Lock()
{
    api_lock.unlock();
}

/* What a device would refuse, or nullptr. */
static const char *bad_launch(const Launch &l)
{
    const uint64_t threads = (uint64_t)l.block.x * l.block.y * l.block.z;
    if (threads == 0 || l.grid.x == 0 || l.grid.y == 0 || l.grid.z == 0) return "a dimension is 0";
    if (threads > (uint64_t)threads_most || l.block.z > 64) return "more than 1024 threads in a block, or z over 64";
    if (l.grid.x > 0x7fffffffu || l.grid.y > 65535 || l.grid.z > 65535) return "the grid is too large";
    if (l.shared > emu_dynamic_shared_limit(l.function))
        return "more dynamic shared memory than cudaFuncSetAttribute allowed this kernel";
    return nullptr;
}

void queue_launch(Launch &&launch, cudaStream_t stream)
{
    const Lock lock;
    if (const char *why = bad_launch(launch)) {
        fprintf(stderr, "emulated device: launch of %s <<<(%u,%u,%u), (%u,%u,%u), %zu>>>: %s\n", launch.kernel,
                launch.grid.x, launch.grid.y, launch.grid.z, launch.block.x, launch.block.y, launch.block.z,
                launch.shared, why);
        emu_note(cudaErrorInvalidConfiguration);
        return;
    }
    const auto kept = std::make_shared<Launch>(std::move(launch));
    enqueue(stream, [kept] {
        kept->number = ++launches;
        run_launch(*kept);
    });
}

void check_argument(const char *kernel, int position, const void *pointer)
{
    if (!pointer || emu_is_device(pointer) || emu_is_pinned(pointer) || emu_settings()->host_pointers) return;
    fprintf(stderr, "emulated device: argument %d of %s is %p, which is not in device memory\n", position, kernel,
            pointer);
    abort();
}

} // namespace emu

const EmuSettings *emu_settings(void)
{
    return &settings;
}

cudaError_t emu_note(cudaError_t error)
{
    if (error != cudaSuccess) last_error = error;
    return error;
}

size_t emu_dynamic_shared_limit(const void *function)
{
    const emu::Lock lock;
    const auto found = shared_limits.find(function);
    return found == shared_limits.end() ? shared_default : found->second;
}

cudaError_t cudaGetLastError(void)
{
    const cudaError_t error = last_error;
    last_error = cudaSuccess;
    return error;
}

cudaError_t cudaPeekAtLastError(void)
{
    return last_error;
}

const char *cudaGetErrorName(cudaError_t error)
{
    switch (error) {
#define X(name, value, text) \
    case name:               \
        return #name;
        EMU_ERRORS(X)
#undef X
    }
    return "unrecognized error code";
}

const char *cudaGetErrorString(cudaError_t error)
{
    switch (error) {
#define X(name, value, text) \
    case name:               \
        return text;
        EMU_ERRORS(X)
#undef X
    }
    return "unrecognized error code";
}

/* ---- the device ---- */

cudaError_t cudaGetDeviceCount(int *count)
{
    *count = 1;
    return cudaSuccess;
}

cudaError_t cudaGetDevice(int *device)
{
    *device = 0;
    return cudaSuccess;
}

cudaError_t cudaSetDevice(int device)
{
    return emu_note(device == 0 ? cudaSuccess : cudaErrorInvalidDevice);
}

cudaError_t cudaSetDeviceFlags(unsigned int flags)
{
    return cudaSuccess;
}

cudaError_t cudaGetDeviceProperties(struct cudaDeviceProp *p, int device)
{
    if (device != 0) return emu_note(cudaErrorInvalidDevice);
    *p = cudaDeviceProp{};
    snprintf(p->name, sizeof p->name, "emulated device");
    /* Each process has a device of its own, unless told otherwise. */
    const uint64_t identity = number("VASILY_EMU_DEVICE", (uint64_t)getpid());
    memcpy(p->uuid.bytes, &identity, sizeof identity);
    p->totalGlobalMem = settings.memory;
    p->sharedMemPerBlock = shared_default;
    p->sharedMemPerBlockOptin = shared_most;
    p->sharedMemPerMultiprocessor = shared_most + 1024;
    p->regsPerBlock = p->regsPerMultiprocessor = 65536;
    p->warpSize = 32;
    p->maxThreadsPerBlock = threads_most;
    p->maxThreadsDim[0] = p->maxThreadsDim[1] = threads_most;
    p->maxThreadsDim[2] = 64;
    p->maxGridSize[0] = 0x7fffffff;
    p->maxGridSize[1] = p->maxGridSize[2] = 65535;
    p->totalConstMem = 65536;
    p->major = 9;
    p->multiProcessorCount = 4;
    p->canMapHostMemory = p->concurrentKernels = p->asyncEngineCount = p->unifiedAddressing = 1;
    p->memoryBusWidth = 64;
    p->l2CacheSize = 1 << 20;
    p->maxThreadsPerMultiProcessor = 2048;
    p->maxBlocksPerMultiProcessor = 32;
    p->streamPrioritiesSupported = 1;
    return cudaSuccess;
}

cudaError_t cudaDeviceGetAttribute(int *value, enum cudaDeviceAttr attribute, int device)
{
    cudaDeviceProp p;
    const cudaError_t error = cudaGetDeviceProperties(&p, device);
    if (error != cudaSuccess) return error;
    switch (attribute) {
    case cudaDevAttrMaxThreadsPerBlock:
        *value = p.maxThreadsPerBlock;
        return cudaSuccess;
    case cudaDevAttrMaxSharedMemoryPerBlock:
        *value = (int)p.sharedMemPerBlock;
        return cudaSuccess;
    case cudaDevAttrWarpSize:
        *value = p.warpSize;
        return cudaSuccess;
    case cudaDevAttrClockRate:
    case cudaDevAttrMemoryClockRate:
        *value = 1000000; /* kHz */
        return cudaSuccess;
    case cudaDevAttrMultiProcessorCount:
        *value = p.multiProcessorCount;
        return cudaSuccess;
    case cudaDevAttrGlobalMemoryBusWidth:
        *value = p.memoryBusWidth;
        return cudaSuccess;
    case cudaDevAttrL2CacheSize:
        *value = p.l2CacheSize;
        return cudaSuccess;
    case cudaDevAttrMaxThreadsPerMultiProcessor:
        *value = p.maxThreadsPerMultiProcessor;
        return cudaSuccess;
    case cudaDevAttrAsyncEngineCount:
        *value = p.asyncEngineCount;
        return cudaSuccess;
    case cudaDevAttrComputeCapabilityMajor:
        *value = p.major;
        return cudaSuccess;
    case cudaDevAttrComputeCapabilityMinor:
        *value = p.minor;
        return cudaSuccess;
    case cudaDevAttrMaxSharedMemoryPerMultiprocessor:
        *value = (int)p.sharedMemPerMultiprocessor;
        return cudaSuccess;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin:
        *value = (int)p.sharedMemPerBlockOptin;
        return cudaSuccess;
    }
    return emu_note(cudaErrorInvalidValue);
}

cudaError_t cudaDeviceGetStreamPriorityRange(int *least, int *greatest)
{
    if (least) *least = 0;
    if (greatest) *greatest = -5;
    return cudaSuccess;
}

cudaError_t cudaDeviceGetPCIBusId(char *id, int capacity, int device)
{
    if (device != 0 || capacity < 13) return emu_note(cudaErrorInvalidValue);
    snprintf(id, (size_t)capacity, "0000:00:00.0");
    return cudaSuccess;
}

cudaError_t cudaDriverGetVersion(int *version)
{
    *version = CUDART_VERSION;
    return cudaSuccess;
}

cudaError_t cudaRuntimeGetVersion(int *version)
{
    *version = CUDART_VERSION;
    return cudaSuccess;
}

cudaError_t cudaFuncSetAttribute(const void *function, enum cudaFuncAttribute attribute, int value)
{
    const emu::Lock lock;
    if (attribute != cudaFuncAttributeMaxDynamicSharedMemorySize) return cudaSuccess;
    if (value < 0 || (size_t)value > shared_most) return emu_note(cudaErrorInvalidValue);
    shared_limits[function] = (size_t)value;
    return cudaSuccess;
}

cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(int *blocks, const void *function, int block_size,
                                                          size_t dynamic_shared)
{
    *blocks = block_size > 0 && block_size <= threads_most ? 2048 / block_size : 0;
    return cudaSuccess;
}
