/* vasily device: what there is to compute on, and why not more. */
#include <stdio.h>
#include <stdlib.h>

#include "engine/backend.h"
#include "train/command.h"
#include "train/network.h"

typedef struct DeviceArguments {
    bool json;
} DeviceArguments;

static void print_device(Backend *backend)
{
    char text[512];
    backend_describe(backend, text, sizeof text);
    printf("%s\n", text);
    if (!backend->device) return;
    int64_t available, total;
    if (backend->device->memory(backend, &available, &total) == STATUS_OK)
        printf("      %.1f of %.1f GB are free\n", 1e-9 * (double)available, 1e-9 * (double)total);
}

/* The description of the GPU, for configs/machines/ and `vasily plan --gpu`. */
static Status print_properties(void)
{
    Status status = STATUS_OK;
    Backend *backend = NULL;
    char *json = NULL;
    TRY(backend_open_cuda(&(BackendOptions){.threads = 1}, &backend));
    TRY(backend->device->properties(backend, &json));
    printf("%s\n", json);
fail:
    free(json);
    if (backend) backend_close(backend);
    return status;
}

static Status run(CommandCall *call)
{
    Status status = STATUS_OK;
    const DeviceArguments *arguments = call->options;
    Backend *backend = NULL;
    if (arguments->json) return print_properties();
    TRY(backend_open_cpu(&(BackendOptions){0}, &backend));
    print_device(backend);
    backend_close(backend);
    backend = NULL;
    if (backend_open_cuda(&(BackendOptions){.threads = 1}, &backend) == STATUS_OK)
        print_device(backend);
    else
        printf("cuda: none: %s\n", status_message());
fail:
    if (backend) backend_close(backend);
    return status;
}

static const ArgSpec options[] = {
    {"json", ARG_FLAG, offsetof(DeviceArguments, json), NULL,
     "the GPU's description, as `vasily plan --gpu FILE` reads it", 0, 0, NULL},
};
static const DeviceArguments defaults = {0};

const Command command_device = {
    .name = "device",
    .summary = "what this machine can compute on",
    .usage = "[--json]",
    .details =
        "One line for the processor and one for the GPU, or what is missing for one: libvasily_cuda.so, a library\n"
        "it needs, the driver, a device. device.name in a config chooses; auto takes the GPU where there is one.\n",
    .table = COMMAND_TABLE(options),
    .options_size = sizeof(DeviceArguments),
    .defaults = &defaults,
    .run = run,
};
