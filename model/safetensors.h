/* Safetensors files: 8 bytes of header length, a JSON header, raw little-endian tensors. Read through a mapping, and
 * trusted in nothing: lengths, offsets, shapes and types are checked before use; holes, overlaps, duplicate names and
 * trailing bytes are refused. */
#ifndef MODEL_SAFETENSORS_H
#define MODEL_SAFETENSORS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"

#define SAFETENSORS_HEADER_LIMIT ((size_t)100 * 1000 * 1000)
#define SAFETENSORS_MAX_DIMS 8

typedef enum SafeDtype {
    SAFE_BOOL,
    SAFE_U8,
    SAFE_I8,
    SAFE_I16,
    SAFE_U16,
    SAFE_I32,
    SAFE_U32,
    SAFE_I64,
    SAFE_U64,
    SAFE_F16,
    SAFE_BF16,
    SAFE_F32,
    SAFE_F64,
    SAFE_DTYPE_COUNT
} SafeDtype;

size_t safe_dtype_size(SafeDtype dtype);
const char *safe_dtype_name(SafeDtype dtype); /* as in the file: "F32" */

typedef struct SafeTensor {
    const char *name;
    SafeDtype dtype;
    int32_t ndim;
    int64_t shape[SAFETENSORS_MAX_DIMS];
    int64_t count;    /* elements */
    const void *data; /* may be unaligned; NULL when only declared to a writer */
} SafeTensor;

typedef struct Safetensors Safetensors;

Status safetensors_open(const char *path, Safetensors **out);
/* The same from bytes in memory, which must stay; `name` is for messages. */
Status safetensors_open_memory(const char *name, const void *data, size_t size, Safetensors **out);
void safetensors_close(Safetensors *file); /* NULL is fine; the tensors' names and data go with it */
int32_t safetensors_count(const Safetensors *file);
const SafeTensor *safetensors_get(const Safetensors *file, int32_t index);     /* in order of their data */
const SafeTensor *safetensors_find(const Safetensors *file, const char *name); /* NULL when absent */
/* The texts of `__metadata__`, in file order; false past the last. */
bool safetensors_metadata(const Safetensors *file, size_t index, const char **key, const char **value);
/* Converts any of the types to float (BOOL to 0 and 1). */
void safetensors_to_f32(const SafeTensor *tensor, float *out);

/* Writing, one tensor after another in the order declared; the file appears whole, by rename, at the end. `data` of
 * the declarations is not read. */
typedef struct SafetensorsWriter SafetensorsWriter;
Status safetensors_writer_create(const char *path, const SafeTensor *tensors, int32_t count, SafetensorsWriter **out);
/* The next tensor's elements from floats, converted to its declared type: F32, BF16 or F16. */
Status safetensors_writer_add_f32(SafetensorsWriter *writer, const float *values);
Status safetensors_writer_add_bytes(SafetensorsWriter *writer, const void *data);
/* The same for the next `count` elements of the tensor that is being written; one without elements takes a call too. */
Status safetensors_writer_piece_f32(SafetensorsWriter *writer, const float *values, int64_t count);
Status safetensors_writer_piece_bytes(SafetensorsWriter *writer, const void *data, int64_t count);
Status safetensors_writer_finish(SafetensorsWriter *writer); /* ends the writer, also on failure */
void safetensors_writer_abort(SafetensorsWriter *writer);    /* leaves no file; NULL is fine */
/* All at once, from `data`. */
Status safetensors_write(const char *path, const SafeTensor *tensors, int32_t count);

#endif
