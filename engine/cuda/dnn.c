/* cuDNN, opened for a device or for the description of one. */
#include "engine/cuda/dnn.h"

#include <stdlib.h>
#include <string.h>

#include "base/json.h"
#include "engine/cuda/cuda.h"
#include "engine/cuda/dnn_inside.h"

/* Of the graphs and of the cache's files: raised when either changes its meaning. */
static const int64_t format = 2;
/* The oldest whose attention does what is asked of it here: lengths since 9.15, and before 9.16 keys that are no
 * multiple of 128 need them (cudnn-frontend's notes on its versions). */
static const size_t oldest = 91600;

size_t dnn_version(void)
{
    return cudnnGetVersion();
}

static Status describe_current(Dnn *dnn)
{
    Status status = STATUS_OK;
    int64_t size = 0;
    TRY_DNN(cudnnBackendSetAttribute(dnn->device, CUDNN_ATTR_DEVICEPROP_HANDLE, CUDNN_TYPE_HANDLE, 1, &dnn->handle));
    TRY_DNN(cudnnBackendFinalize(dnn->device));
    TRY_DNN(cudnnBackendGetAttribute(dnn->device, CUDNN_ATTR_DEVICEPROP_JSON_REPRESENTATION, CUDNN_TYPE_CHAR, 0, &size,
                                     NULL));
    dnn->properties = calloc(1, (size_t)size + 1);
    if (!dnn->properties) FAIL(ERR_MEMORY, "no memory for a device's description");
    TRY_DNN(cudnnBackendGetAttribute(dnn->device, CUDNN_ATTR_DEVICEPROP_JSON_REPRESENTATION, CUDNN_TYPE_CHAR, size,
                                     &size, dnn->properties));
fail:
    return status;
}

static Status describe_from(Dnn *dnn, const char *properties)
{
    Status status = STATUS_OK;
    size_t size = strlen(properties);
    while (size > 0 && properties[size - 1] == '\n') size--;
    dnn->properties = strndup(properties, size);
    if (!dnn->properties) FAIL(ERR_MEMORY, "no memory for a device's description");
    TRY_DNN(cudnnBackendSetAttribute(dnn->device, CUDNN_ATTR_DEVICEPROP_JSON_REPRESENTATION, CUDNN_TYPE_CHAR,
                                     (int64_t)size, dnn->properties));
    TRY_DNN(cudnnBackendFinalize(dnn->device));
fail:
    return status;
}

Hash128 dnn_device_hash(const char *properties)
{
    static const char *const keys[] = {"deviceVer", "multiProcessorCount", "driverVer", "cudaDeviceId"};
    JsonDoc *doc = NULL;
    struct {
        int64_t number[4];
        char name[128];
    } all = {0};
    const size_t size = strlen(properties);
    bool known = json_parse(properties, size, (size_t)1 << 20, &doc) == STATUS_OK;
    const char *name = known ? json_text(json_get(json_root(doc), "deviceName"), NULL) : NULL;
    if (name) strncpy(all.name, name, sizeof all.name - 1);
    known = name != NULL;
    for (int i = 0; i < 4 && known; i++) known = json_integer(json_get(json_root(doc), keys[i]), &all.number[i]);
    json_free(doc);
    /* A description in other words is taken whole: at worst, plans are made more often. */
    return known ? hash_memory(&all, sizeof all) : hash_memory(properties, size);
}

static Status identify(Dnn *dnn)
{
    Status status = STATUS_OK;
    int runtime = 0;
    TRY_CUDA(cudaRuntimeGetVersion(&runtime));
    const struct {
        int64_t format, cudnn, headers, runtime;
        Hash128 device;
    } all = {format, (int64_t)cudnnGetVersion(), CUDNN_VERSION, runtime, dnn_device_hash(dnn->properties)};
    dnn->identity = hash_memory(&all, sizeof all);
fail:
    return status;
}

Status dnn_open(const DnnOptions *options, Dnn **out)
{
    Status status = STATUS_OK;
    Dnn *dnn = calloc(1, sizeof *dnn);
    if (!dnn) FAIL(ERR_MEMORY, "no memory for cuDNN");
    dnn->stream = options->stream;
    dnn->deterministic = options->deterministic;
    if (cudnnGetVersion() < oldest)
        FAIL(ERR_UNSUPPORTED, "cuDNN %zu is too old: 9.16 or newer is wanted", cudnnGetVersion());
    TRY_DNN(cudnnBackendCreateDescriptor(CUDNN_BACKEND_DEVICEPROP_DESCRIPTOR, &dnn->device));
    if (options->properties) {
        TRY(describe_from(dnn, options->properties));
    } else {
        TRY_DNN(cudnnCreate(&dnn->handle));
        TRY_DNN(cudnnSetStream(dnn->handle, dnn->stream));
        TRY(describe_current(dnn));
    }
    TRY(identify(dnn));
    if (options->cache && options->cache[0]) {
        dnn->cache = strdup(options->cache);
        if (!dnn->cache) FAIL(ERR_MEMORY, "no memory for cuDNN");
    }
    *out = dnn;
    return STATUS_OK;
fail:
    dnn_close(dnn);
    return status;
}

void dnn_close(Dnn *dnn)
{
    if (!dnn) return;
    if (dnn->device) cudnnBackendDestroyDescriptor(dnn->device);
    if (dnn->handle) cudnnDestroy(dnn->handle);
    free(dnn->properties);
    free(dnn->cache);
    free(dnn);
}

Status dnn_describe_device(Dnn *dnn, char **json)
{
    Status status = STATUS_OK;
    *json = strdup(dnn->properties);
    if (!*json) FAIL(ERR_MEMORY, "no memory for a device's description");
fail:
    return status;
}
