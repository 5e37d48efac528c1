#include "engine/cuda/properties.h"

#include <stdio.h>
#include <string.h>

#include "base/json.h"
#include "engine/cuda/cuda.h"

/* By rule of thumb: a fiftieth, at least 1 GiB, but of small devices no more than a quarter. */
static int64_t reserved_of(int64_t memory)
{
    int64_t bytes = memory / 50;
    if (bytes < (int64_t)1 << 30) bytes = (int64_t)1 << 30;
    return bytes < memory / 4 ? bytes : memory / 4;
}

/* Dense bf16 FLOP/s by the makers' data sheets, of the parts with the fastest links (SXM). */
static double nominal_rate(const char *name)
{
    static const struct {
        const char *part;
        double rate;
    } PARTS[] = {{"H200", 989e12}, {"H100 80GB HBM3", 989e12}, {"H100 SXM", 989e12}, {"A100", 312e12}};
    for (size_t i = 0; i < sizeof PARTS / sizeof PARTS[0]; i++)
        if (strstr(name, PARTS[i].part)) return PARTS[i].rate;
    return 0;
}

Status properties_of_device(int device, DeviceProperties *out)
{
    Status status = STATUS_OK;
    struct cudaDeviceProp properties;
    TRY_CUDA(cudaGetDeviceProperties(&properties, device));
    *out = (DeviceProperties){.processors = properties.multiProcessorCount,
                              .capability = 10 * properties.major + properties.minor,
                              .memory = (int64_t)properties.totalGlobalMem,
                              .reserved = reserved_of((int64_t)properties.totalGlobalMem),
                              .matmul_nominal = nominal_rate(properties.name)};
    snprintf(out->name, sizeof out->name, "%s", properties.name);
fail:
    return status;
}

/* A whole number from 1 to `most`. */
static Status take(const char *path, const JsonValue *root, const char *key, int64_t most, int64_t *out)
{
    Status status = STATUS_OK;
    if (!json_integer(json_get(root, key), out) || *out < 1 || *out > most)
        FAIL(ERR_FORMAT, "%s: %s must be a whole number from 1 to %lld", path, key, (long long)most);
fail:
    return status;
}

Status properties_parse(const char *path, const char *text, size_t size, DeviceProperties *out)
{
    Status status = STATUS_OK;
    JsonDoc *doc = NULL;
    int64_t processors, capability, memory;
    if (json_parse(text, size, (size_t)1 << 20, &doc) != STATUS_OK)
        FAIL(ERR_FORMAT, "%s: is no description of a device: %s", path, status_message());
    const JsonValue *root = json_root(doc);
    size_t length = 0;
    const char *name = json_text(json_get(root, "deviceName"), &length);
    if (!name || length == 0 || length >= sizeof out->name || utf8_has_controls(name, length))
        FAIL(ERR_FORMAT, "%s: deviceName must be a name of at most %zu bytes", path, sizeof out->name - 1);
    TRY(take(path, root, "multiProcessorCount", 4096, &processors));
    TRY(take(path, root, "deviceVer", 9990, &capability));
    TRY(take(path, root, "totalGlobalMem", (int64_t)1 << 50, &memory));
    *out = (DeviceProperties){.processors = (int32_t)processors,
                              .capability = (int32_t)(capability / 10), /* 900 is 9.0 */
                              .memory = memory,
                              .reserved = reserved_of(memory),
                              .matmul_nominal = nominal_rate(name)};
    snprintf(out->name, sizeof out->name, "%s", name);
    if (out->capability < 80)
        FAIL(ERR_UNSUPPORTED, "%s: %s has compute capability %d.%d; 8.0 and later are supported", path, out->name,
             out->capability / 10, out->capability % 10);
fail:
    json_free(doc);
    return status;
}
