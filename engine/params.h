/* Parameters: what networks are made of, and the flat buffers that hold them.
 *
 * A ParamTable lists every parameter once, under the name the published weight files use; graphs of any shape that are
 * built over the same table share it (256 and 512 pixels are two graphs over one table). Trainable parameters lie in
 * one flat buffer, frozen ones in another. The trainable buffer is ordered by when backward finishes each gradient
 * (graph_backward fixes that order), so that a bucket of gradients is a slice and is complete early.
 *
 * Layout: the engine keeps convolution weights as O,KH,KW,C; files keep them as O,C,KH,KW (Conv1d: O,C,1). Everything
 * else is the same in both. param_to_file / param_from_file convert. */
#ifndef ENGINE_PARAMS_H
#define ENGINE_PARAMS_H

#include "base/status.h"
#include "engine/tensor.h"

typedef enum ParamLayout {
    PARAM_PLAIN, /* file shape = engine shape */
    PARAM_CONV,  /* engine O,KH,KW,C; file O,C,KH,KW */
    PARAM_CONV1D /* engine O,C (a linear); file O,C,1 */
} ParamLayout;

typedef enum ParamInit {
    PARAM_INIT_ZERO,
    PARAM_INIT_ONE,
    PARAM_INIT_UNIFORM, /* uniform in [-scale, scale]; PyTorch's default for conv and linear has scale 1/sqrt(fan_in) */
    PARAM_INIT_NORMAL,  /* normal with standard deviation scale */
    PARAM_INIT_IDENTITY /* a matrix (O,C): scale where o = c, else 0 */
} ParamInit;

#define PARAM_ALIGN 16 /* elements: every parameter starts on a 64-byte boundary of its flat buffer */

typedef struct Param {
    const char *name; /* owned by the table */
    Shape shape;      /* engine layout */
    ParamLayout layout;
    ParamInit init;
    float init_scale;
    bool trainable;
    bool held;      /* trainable, but to keep its values for now: no gradient is computed, so it stays zero */
    int64_t count;  /* elements */
    int64_t offset; /* elements into its flat buffer; valid after param_table_layout */
} Param;

typedef struct ParamTable ParamTable;

Status param_table_create(ParamTable **out);
void param_table_free(ParamTable *table);
/* The index of a parameter, added if its name is new; ERR_INTERNAL if the name exists with another shape, or if the
 * table is laid out already and the name is new. */
Status param_table_add(ParamTable *table, const Param *param, int32_t *index);
int32_t param_table_find(const ParamTable *table, const char *name); /* -1 when absent */
int32_t param_table_size(const ParamTable *table);
const Param *param_table_get(const ParamTable *table, int32_t index);
/* The flat buffer of trainable parameters is to be a multiple of so many elements long, what is too much being zero;
 * before the layout. A multiple of PARAM_ALIGN. */
void param_table_pad(ParamTable *table, int64_t multiple);
/* Fixes offsets: trainable parameters in the given order (indices; those not listed follow in table order; NULL: table
 * order), frozen ones in table order. Once only; a second call is a no-op. */
Status param_table_layout(ParamTable *table, const int32_t *trainable_order, int32_t count);
bool param_table_is_laid_out(const ParamTable *table);
int64_t param_table_trainable_elements(const ParamTable *table); /* flat length, padding included */
int64_t param_table_frozen_elements(const ParamTable *table);
int64_t param_table_trainable_parameters(const ParamTable *table); /* without padding */

/* The file layout of a parameter: shape, and conversion of its `count` floats. */
Shape param_file_shape(const Param *param);
void param_to_file(const Param *param, const float *engine, float *file);
void param_from_file(const Param *param, const float *file, float *engine);

/* The same buffers in the memory of a device (engine/param_image.h). */
typedef struct Backend Backend;
typedef struct ParamImage {
    Backend *backend;
    float *weights, *grads, *frozen;      /* as in ParamStore */
    uint16_t *half_weights, *half_frozen; /* bf16 copies at the same element offsets; NULL where none are kept */
} ParamImage;

/* The buffers: weights and gradients of trainable parameters, weights of frozen ones. fp32, 64-byte aligned. Memory is
 * taken as it is first written. A copy of the struct shares everything with the original, which alone is freed. */
typedef struct ParamStore {
    const ParamTable *table;
    float *weights;      /* trainable_elements */
    float *grads;        /* the same; NULL without gradients */
    float *frozen;       /* frozen_elements; what belongs to bound parameters is never touched */
    const float **bound; /* per parameter: where its values are instead, or NULL */
    ParamImage *image;   /* NULL on backends that compute in host memory */
} ParamStore;

Status param_store_create(const ParamTable *table, bool with_grads, ParamStore *out); /* needs the layout; zeroed */
void param_store_free(ParamStore *store);
/* The values of a frozen parameter are somewhere else, such as in a mapped weight file, in engine layout: they are read
 * there, and the store's own memory for them is never touched and so never resident. Any address divisible by 4 will
 * do. The values must outlive the store and everything made over it. To be called before param_store_init and before
 * executors are made over the store. ERR_INTERNAL for trainable parameters, wrong indices and odd addresses. */
Status param_store_bind(ParamStore *store, int32_t index, const float *values);
bool param_store_is_bound(const ParamStore *store, int32_t index);
/* The same values at an address divisible by `alignment` bytes (at most 64): where those bound are not, they are copied
 * into the store's own memory, and the parameter is bound no longer. */
void param_store_align(const ParamStore *store, int32_t index, size_t alignment);
/* Every parameter that is not bound by its init rule, from Philox(seed, RANDOM_INIT, hash of name). */
void param_store_init(ParamStore *store, uint64_t seed);
/* Where a parameter's values are; those of a bound one may be read only. */
float *param_store_weight(const ParamStore *store, int32_t index);
float *param_store_grad(const ParamStore *store, int32_t index); /* NULL for frozen ones */

#endif
