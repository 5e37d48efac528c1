#include "engine/memory.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* A whole number from a file such as memory.max; -1 when absent or "max". */
static int64_t read_number(const char *path)
{
    int64_t value = -1;
    FILE *file = fopen(path, "r");
    if (file == NULL) return -1;
    if (fscanf(file, "%" SCNd64, &value) != 1) value = -1;
    fclose(file);
    return value;
}

/* The number behind `key` in a file of "key number" lines; -1 when absent. */
static int64_t read_field(const char *path, const char *key)
{
    char line[256];
    int64_t value = -1, found;
    size_t length = strlen(key);
    FILE *file = fopen(path, "r");
    if (file == NULL) return -1;
    while (value < 0 && fgets(line, sizeof line, file) != NULL)
        if (strncmp(line, key, length) == 0 && sscanf(line + length, "%" SCNd64, &found) == 1) value = found;
    fclose(file);
    return value;
}

/* Bytes that the kernel counts for this process under `key`; 0 when unknown. Nothing is allocated, so that a training
 * step may ask. */
static int64_t read_own(const char *key)
{
    char text[4096];
    int64_t kilobytes = 0;
    const int file = open("/proc/self/status", O_RDONLY | O_CLOEXEC);
    if (file < 0) return 0;
    const ssize_t size = read(file, text, sizeof text - 1);
    close(file);
    text[size > 0 ? size : 0] = '\0';
    const char *found = strstr(text, key);
    return found != NULL && sscanf(found + strlen(key), "%" SCNd64, &kilobytes) == 1 ? kilobytes * 1024 : 0;
}

int64_t memory_resident(void)
{
    return read_own("VmRSS:");
}

int64_t memory_peak(void)
{
    return read_own("VmHWM:");
}

int64_t memory_available(void)
{
    int64_t kilobytes = read_field("/proc/meminfo", "MemAvailable:");
    int64_t available = kilobytes < 0 ? INT64_MAX : kilobytes * 1024;
    int64_t limit = read_number("/sys/fs/cgroup/memory.max");
    int64_t used = read_number("/sys/fs/cgroup/memory.current");
    int64_t cache = read_field("/sys/fs/cgroup/memory.stat", "file "); /* given back by the kernel when needed */
    if (cache > 0 && used > cache) used -= cache;
    if (limit >= 0 && used >= 0 && limit - used < available) available = limit > used ? limit - used : 0;
    const char *told = getenv("VASILY_MEMORY_BYTES");
    if (told != NULL) {
        const int64_t left = strtoll(told, NULL, 10) - memory_resident();
        if (left < available) available = left > 0 ? left : 0;
    }
    return available;
}

Status memory_check(size_t bytes)
{
    int64_t available = memory_available();
    if ((uint64_t)bytes <= (uint64_t)available) return STATUS_OK;
    return status_fail(ERR_MEMORY, __FILE__, __LINE__,
                       "the plan wants %.2f GB and %.2f GB are free; lower train.micro_batch, or set "
                       "train.recompute: true to keep fewer activations",
                       (double)bytes * 1e-9, (double)available * 1e-9);
}
