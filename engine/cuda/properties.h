/* What is to be known of a device: asked of the device itself, or read from a file that describes one
 * (configs/machines/), in the form cuDNN writes and reads, with a few keys of ours beside. */
#ifndef ENGINE_CUDA_PROPERTIES_H
#define ENGINE_CUDA_PROPERTIES_H

#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

typedef struct DeviceProperties {
    char name[256];
    int32_t processors;    /* streaming multiprocessors */
    int32_t capability;    /* 10 major + minor: 80, 90 */
    int64_t memory;        /* bytes */
    int64_t reserved;      /* of them, what driver, libraries, loaded kernels and recordings take besides */
    double matmul_nominal; /* dense bf16 FLOP/s its maker states; 0: not known */
} DeviceProperties;

Status properties_of_device(int device, DeviceProperties *out);
/* `path` is for messages. */
Status properties_parse(const char *path, const char *text, size_t size, DeviceProperties *out);

#endif
