/* A hostile tar file: read through, then again from each position told. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/archive.h"

#define MAX_MEMBERS 64

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size);

static int64_t read_through(const char *path, int64_t offset, int64_t *positions, int limit)
{
    Archive *archive;
    const char *name;
    int64_t bytes, count = 0;
    if (archive_open(path, offset, &archive) != STATUS_OK) return 0;
    while (count < limit && archive_next(archive, &name, &bytes) == STATUS_OK) {
        positions[count] = archive_position(archive);
        if (bytes < 0 || positions[count] < offset) abort();
        if (bytes < 1 << 20 && count % 2 == 0) {
            char *out = malloc((size_t)bytes + 1);
            (void)archive_read(archive, out);
            free(out);
        }
        count++;
    }
    if (archive_is_compressed(archive)) count = 0;
    archive_close(archive);
    return count;
}

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size)
{
    int64_t positions[MAX_MEMBERS], again[2];
    char path[64];
    int fd = memfd_create("fuzz", 0);
    if (fd < 0 || write(fd, data, size) != (ssize_t)size) abort();
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    int64_t count = read_through(path, 0, positions, MAX_MEMBERS);
    for (int64_t i = 0; i < count && i < 3; i++) {
        /* A header that passes in the middle of a file may be refused at its beginning; no other may come instead. */
        if (read_through(path, positions[i], again, 2) > 0 && again[0] != positions[i]) abort();
    }
    close(fd);
    return 0;
}
