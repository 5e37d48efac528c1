/* poison_latents FILE.latents-N.h5 SAMPLE: puts NaN into the latents of one accepted sample of a precomputed file, for
 * tests; such a file cannot come from `vasily precompute`, which refuses values that are not finite. */
#include <fcntl.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/hdf5_file.h"

static Status find_row(const char *path, int64_t sample, int64_t *offset, int64_t *values)
{
    Status status = STATUS_OK;
    H5File *file = NULL;
    int64_t dims[4] = {-1, -1, -1, -1}, samples[1] = {-1}, at;
    int64_t *rows = NULL;
    TRY(h5_open(path, &file));
    TRY(h5_locate(file, "latents/moments", H5_F32, 4, dims, offset));
    TRY(h5_locate(file, "samples/row", H5_I64, 1, samples, &at));
    if (sample < 0 || sample >= samples[0]) FAIL(ERR_USAGE, "%s has %lld samples", path, (long long)samples[0]);
    rows = calloc((size_t)samples[0], sizeof *rows);
    if (!rows) FAIL(ERR_MEMORY, "out of memory");
    TRY(h5_read(file, "samples/row", H5_I64, samples[0], rows));
    if (rows[sample] < 0) FAIL(ERR_USAGE, "sample %lld is not an accepted one", (long long)sample);
    *values = dims[1] * dims[2] * dims[3];
    *offset += rows[sample] * *values * (int64_t)sizeof(float);
fail:
    free(rows);
    (void)h5_close(file);
    return status;
}

int main(int argc, char **argv)
{
    int64_t offset = 0, values = 0;
    const float bad = NAN;
    if (argc != 3) return 2;
    const Status status = find_row(argv[1], strtoll(argv[2], NULL, 10), &offset, &values);
    if (status != STATUS_OK) {
        fprintf(stderr, "%s\n", status_message());
        return status_exit_code(status);
    }
    const int file = open(argv[1], O_WRONLY | O_CLOEXEC);
    bool good = file >= 0;
    for (int64_t i = 0; good && i < values; i++)
        good = pwrite(file, &bad, sizeof bad, offset + i * (int64_t)sizeof bad) == sizeof bad;
    if (!good) perror(argv[1]);
    return good && close(file) == 0 ? 0 : 3;
}
