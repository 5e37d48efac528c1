#include "engine/backend.h"

#include <stdio.h>
#include <string.h>

#include "base/log.h"

Status backend_open(const char *device, const BackendOptions *options, Backend **out)
{
    Status status = STATUS_OK;
    char text[512];
    const char *why = "";
    if (strcmp(device, "cpu") == 0 || strcmp(device, "auto") == 0) {
        if (device[0] == 'a') why = " (device.name is auto and this build has no GPU backend)";
        TRY(backend_open_cpu(options, out));
    } else if (strcmp(device, "ref") == 0) {
        TRY(backend_open_ref(options, out));
    } else if (strcmp(device, "cuda") == 0) {
        FAIL(ERR_UNSUPPORTED, "device.name: cuda: this build has no CUDA backend; use auto or cpu");
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

void backend_close(Backend *backend)
{
    if (backend != NULL && backend->close != NULL) backend->close(backend);
}
