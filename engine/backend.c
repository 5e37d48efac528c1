#include "engine/backend.h"

#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "engine/memory.h"

/* What `auto` takes; `why` says what kept it from a GPU. */
static Status open_fastest(const BackendOptions *options, Backend **out, char *why, size_t capacity)
{
    Status status = STATUS_OK;
    if (!backend_cuda_is_likely()) {
        snprintf(why, capacity, " (device.name is auto, and this machine has no NVIDIA driver)");
    } else if (backend_open_cuda(options, out) == STATUS_OK) {
        snprintf(why, capacity, " (device.name is auto)");
        return STATUS_OK;
    } else {
        snprintf(why, capacity, " (device.name is auto; no GPU: %s)", status_message());
    }
    TRY(backend_open_cpu(options, out));
fail:
    return status;
}

Status backend_open(const char *device, const BackendOptions *options, Backend **out)
{
    Status status = STATUS_OK;
    char text[512], why[1024] = "";
    if (strcmp(device, "auto") == 0) {
        TRY(open_fastest(options, out, why, sizeof why));
    } else if (strcmp(device, "cpu") == 0) {
        TRY(backend_open_cpu(options, out));
    } else if (strcmp(device, "ref") == 0) {
        TRY(backend_open_ref(options, out));
    } else if (strcmp(device, "cuda") == 0) {
        if (backend_open_cuda(options, out) != STATUS_OK)
            FAIL(ERR_UNSUPPORTED, "device.name: cuda: %s; auto or cpu would run on the processor", status_message());
    } else {
        FAIL(ERR_CONFIG, "device.name: %s is none of auto, cpu, ref, cuda", device);
    }
    backend_describe(*out, text, sizeof text);
    log_info("device: %s%s", text, why);
fail:
    return status;
}

void backend_describe(const Backend *backend, char *out, size_t capacity)
{
    if (backend->describe != NULL)
        backend->describe(backend, out, capacity);
    else
        snprintf(out, capacity, "%s", backend->name);
}

int64_t backend_memory_available(Backend *backend)
{
    int64_t available = 0, total = 0;
    if (!backend->device) return memory_available();
    if (backend->device->memory(backend, &available, &total) != STATUS_OK) return 0;
    return available > backend->device->reserve ? available - backend->device->reserve : 0;
}

void backend_close(Backend *backend)
{
    if (backend != NULL && backend->close != NULL) backend->close(backend);
}
