#include "train/weight_stream.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/file.h"
#include "base/log.h"
#include "base/half.h"

enum { PIECE = 1 << 18 }; /* values at a time */
#define LIVE_SECONDS 0.2

const char *const STREAM_DTYPE_WORDS[] = {"f32", "bf16", "f16", "keep", NULL};

static SafeDtype dtype_in_file(StreamDtype dtype, const WeightTensor *tensor)
{
    static const SafeDtype dtypes[] = {[STREAM_F32] = SAFE_F32, [STREAM_BF16] = SAFE_BF16, [STREAM_F16] = SAFE_F16};
    return dtype == STREAM_KEEP ? tensor->dtype : dtypes[dtype];
}

static void show_progress(const char *what, int64_t done, int64_t all, double *shown)
{
    char line[128];
    double now = clock_seconds();
    if (now - *shown < LIVE_SECONDS) return;
    *shown = now;
    snprintf(line, sizeof line, "%s: %3.0f%%  %.2f of %.2f GB", what,
             100.0 * (double)done / (double)(all > 0 ? all : 1), 1e-9 * (double)done, 1e-9 * (double)all);
    log_live_line(line);
}

/* Finite values that f16 cannot hold. */
static int64_t count_overflow(const float *values, int64_t count)
{
    int64_t overflowed = 0;
    for (int64_t i = 0; i < count; i++)
        overflowed += isfinite(values[i]) && (half_from_f32(values[i]) & 0x7fff) == 0x7c00;
    return overflowed;
}

static Status write_piece(SafetensorsWriter *writer, const WeightTensor *t, StreamDtype dtype, int64_t first, int64_t n,
                          void *piece, StreamTotals *totals)
{
    Status status = STATUS_OK;
    if (dtype == STREAM_KEEP) {
        weight_tensor_copy(t, first, n, piece);
        TRY(safetensors_writer_piece_bytes(writer, piece, n));
    } else {
        weight_tensor_to_f32(t, first, n, piece);
        if (dtype == STREAM_F16) totals->overflowed += count_overflow(piece, n);
        TRY(safetensors_writer_piece_f32(writer, piece, n));
    }
fail:
    return status;
}

Status weight_stream_write(const char *path, const StreamTensor *items, int32_t count, StreamDtype dtype,
                           const char *what, StreamTotals *totals)
{
    Status status = STATUS_OK;
    SafetensorsWriter *writer = NULL;
    SafeTensor *declared = mem_alloc_array((size_t)count + 1, sizeof *declared);
    void *piece = mem_alloc_array(PIECE, 8);
    double shown = 0;
    int64_t done = 0;
    *totals = (StreamTotals){0};
    if (!declared || !piece) FAIL(ERR_MEMORY, "%s: out of memory", path);
    for (int32_t i = 0; i < count; i++) {
        const WeightTensor *t = items[i].tensor;
        declared[i] =
            (SafeTensor){.name = items[i].name, .dtype = dtype_in_file(dtype, t), .ndim = t->ndim, .count = t->count};
        memcpy(declared[i].shape, t->shape, sizeof t->shape);
        totals->values += t->count;
        totals->bytes += t->count * (int64_t)safe_dtype_size(declared[i].dtype);
    }
    TRY(safetensors_writer_create(path, declared, count, &writer));
    for (int32_t i = 0; i < count; i++) {
        const WeightTensor *t = items[i].tensor;
        int64_t first = 0;
        do { /* once for an empty tensor too */
            int64_t n = t->count - first < PIECE ? t->count - first : PIECE;
            TRY(write_piece(writer, t, dtype, first, n, piece, totals));
            first += n;
            done += n * (int64_t)safe_dtype_size(declared[i].dtype);
            if (first % (16 * PIECE) == 0 || first == t->count) weight_tensor_release(t);
            show_progress(what, done, totals->bytes, &shown);
        } while (first < t->count);
    }
    status = safetensors_writer_finish(writer);
    writer = NULL;
    TRY(status);
fail:
    log_live_line(NULL);
    safetensors_writer_abort(writer);
    free(declared);
    free(piece);
    return status;
}
