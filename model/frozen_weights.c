#include "model/frozen_weights.h"

#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/log.h"
#include "model/training_graph.h"
#include "model/weight_names.h"

enum { PIECE = 1 << 16 }; /* floats hashed at a time */

const char *const FROZEN_NETWORK_WORDS[] = {"autoencoder", "text_encoder1", "text_encoder2"};

static const WeightKind KINDS[FROZEN_NETWORK_COUNT] = {WEIGHTS_VAE, WEIGHTS_XLMR_CLIP, WEIGHTS_MT5};

typedef struct Source {
    bool used;        /* by the store */
    char *path;       /* NULL: drawn from the seed */
    WeightFile *file; /* NULL until opened */
    WeightMatch match;
} Source;

struct FrozenWeights {
    Arena *arena;
    ParamTable *whole; /* every parameter of every network: the store's table may have a part (an encoder alone) */
    Source sources[FROZEN_NETWORK_COUNT];
    float **copies; /* converted tensors */
    size_t copy_count, copy_capacity;
};

static const char *path_of(const ModelConfig *model, FrozenNetwork network)
{
    const char *path = NULL;
    if (network == FROZEN_AUTOENCODER && model->autoencoder.kind == AUTOENCODER_KL) path = model->autoencoder.weights;
    if (network == FROZEN_TEXT1) path = model->text_encoder1.weights;
    if (network == FROZEN_TEXT2) path = model->text_encoder2.weights;
    return path && path[0] ? path : NULL;
}

static bool has_network(const ParamTable *table, WeightKind kind)
{
    for (int32_t p = 0; p < param_table_size(table); p++)
        if (weight_kind_has(kind, param_table_get(table, p))) return true;
    return false;
}

/* Whether the file's order of elements is the engine's. */
static bool same_order(const Param *param)
{
    return param->layout != PARAM_CONV || param->shape.dim[1] * param->shape.dim[2] == 1;
}

/* A copy in the engine's layout; the caller frees nothing. */
static Status convert(FrozenWeights *frozen, const WeightTensor *tensor, const Param *param, const float **out)
{
    Status status = STATUS_OK;
    float *file = NULL;
    TRY(mem_grow(&frozen->copies, &frozen->copy_capacity, frozen->copy_count + 1, sizeof *frozen->copies));
    float *copy = mem_alloc_aligned((size_t)param->count * sizeof *copy);
    if (!copy) FAIL(ERR_MEMORY, "no memory for %s, %lld values", param->name, (long long)param->count);
    frozen->copies[frozen->copy_count++] = copy;
    if (same_order(param)) {
        weight_tensor_to_f32(tensor, 0, param->count, copy);
    } else {
        file = mem_alloc_array((size_t)param->count, sizeof *file);
        if (!file) FAIL(ERR_MEMORY, "no memory for %s, %lld values", param->name, (long long)param->count);
        weight_tensor_to_f32(tensor, 0, param->count, file);
        param_from_file(param, file, copy);
    }
    weight_tensor_release(tensor);
    *out = copy;
fail:
    free(file);
    return status;
}

/* The store's parameters of one network, to the values in its file. */
static Status bind_network(FrozenWeights *frozen, FrozenNetwork network, ParamStore *store)
{
    Status status = STATUS_OK;
    const Source *source = &frozen->sources[network];
    int64_t mapped = 0, converted = 0;
    for (int32_t p = 0; p < param_table_size(store->table); p++) {
        const Param *param = param_table_get(store->table, p);
        if (!weight_kind_has(KINDS[network], param)) continue;
        int32_t index = param_table_find(frozen->whole, param->name);
        const WeightTensor *tensor = index < 0 ? NULL : source->match.tensors[index];
        if (!tensor) FAIL(ERR_INTERNAL, "the parameter %s is not part of the model", param->name);
        const float *values = same_order(param) ? weight_tensor_floats(tensor) : NULL;
        if (values)
            mapped += param->count;
        else
            converted += param->count;
        if (!values) TRY(convert(frozen, tensor, param, &values));
        TRY(param_store_bind(store, p, values));
    }
    log_info("%s: %s, %.1f M values in place, %.1f M converted", FROZEN_NETWORK_WORDS[network],
             weight_file_path(source->file), (double)mapped / 1e6, (double)converted / 1e6);
fail:
    return status;
}

/* Opens a network's file and checks it against the whole network. */
static Status open_source(FrozenWeights *frozen, FrozenNetwork network)
{
    Status status = STATUS_OK;
    Source *source = &frozen->sources[network];
    status = weight_file_open(source->path, &source->file);
    if (status) {
        status_prefix("model.%s.weights: ", FROZEN_NETWORK_WORDS[network]);
        TRY(status);
    }
    TRY(weight_match(source->file, frozen->whole, KINDS[network], &source->match));
    status = weight_match_check(&source->match, source->path, KINDS[network], false,
                                "is it of this architecture? `vasily import` lists every name and can leave unknown "
                                "tensors out");
    if (status) {
        status_prefix("model.%s.weights: ", FROZEN_NETWORK_WORDS[network]);
        TRY(status);
    }
fail:
    return status;
}

Status frozen_weights_load(const ModelConfig *model, ParamStore *store, FrozenWeights **out)
{
    Status status = STATUS_OK;
    FrozenWeights *frozen = mem_alloc_array(1, sizeof *frozen);
    if (!frozen) return ERR_MEMORY;
    TRY(arena_create(&frozen->arena));
    TRY(param_table_create(&frozen->whole));
    TRY(model_declare_params(frozen->whole, model));
    for (int n = 0; n < FROZEN_NETWORK_COUNT; n++) {
        Source *source = &frozen->sources[n];
        const char *path = path_of(model, (FrozenNetwork)n);
        source->used = has_network(store->table, KINDS[n]);
        source->path = path ? arena_strdup(frozen->arena, path) : NULL;
        if (path && !source->path) FAIL(ERR_MEMORY, "out of memory");
        bool kl = n == FROZEN_AUTOENCODER && model->autoencoder.kind == AUTOENCODER_KL;
        if (!path && source->used && kl && log_rank() == 0)
            log_warn("model.autoencoder.weights is empty: the autoencoder's weights are drawn from the seed, and what "
                     "it decodes is noise");
        if (!path || !source->used) continue;
        TRY(open_source(frozen, (FrozenNetwork)n));
        TRY(bind_network(frozen, (FrozenNetwork)n, store));
    }
    *out = frozen;
    return STATUS_OK;
fail:
    frozen_weights_free(frozen);
    return status;
}

void frozen_weights_free(FrozenWeights *frozen)
{
    if (!frozen) return;
    for (int n = 0; n < FROZEN_NETWORK_COUNT; n++) {
        weight_match_free(&frozen->sources[n].match);
        weight_file_close(frozen->sources[n].file);
    }
    for (size_t i = 0; i < frozen->copy_count; i++) mem_free_aligned(frozen->copies[i]);
    free(frozen->copies);
    param_table_free(frozen->whole);
    arena_free(frozen->arena);
    free(frozen);
}

bool frozen_weights_used(const FrozenWeights *frozen, FrozenNetwork network)
{
    return frozen->sources[network].used;
}

/* ---- fingerprints ---- */

static void hash_number(HashStream *stream, uint64_t number)
{
    uint8_t bytes[8];
    for (int i = 0; i < 8; i++) bytes[i] = (uint8_t)(number >> (8 * i));
    hash_stream_add(stream, bytes, sizeof bytes);
}

/* A tensor's values as floats, piece by piece. */
static void hash_values(HashStream *stream, const WeightTensor *tensor, float *piece)
{
    for (int64_t at = 0; at < tensor->count; at += PIECE) {
        int64_t n = tensor->count - at < PIECE ? tensor->count - at : PIECE;
        weight_tensor_to_f32(tensor, at, n, piece);
        hash_stream_add(stream, piece, (size_t)n * sizeof *piece);
    }
    weight_tensor_release(tensor);
}

Status frozen_weights_fingerprint(FrozenWeights *frozen, FrozenNetwork network, uint64_t seed, char out[33])
{
    Status status = STATUS_OK;
    HashStream *stream = NULL;
    const Source *source = &frozen->sources[network];
    float *piece = mem_alloc_array(PIECE, sizeof *piece);
    out[0] = '\0';
    if (!piece) FAIL(ERR_MEMORY, "out of memory");
    if (!has_network(frozen->whole, KINDS[network])) goto fail; /* nothing to tell */
    if (source->path && !source->file) TRY(open_source(frozen, network));
    TRY(hash_stream_create(&stream));
    if (!source->file) hash_number(stream, seed);
    for (int32_t p = 0; p < param_table_size(frozen->whole); p++) {
        const Param *param = param_table_get(frozen->whole, p);
        if (!weight_kind_has(KINDS[network], param)) continue;
        const Shape shape = param_file_shape(param);
        hash_stream_add(stream, param->name, strlen(param->name) + 1);
        hash_number(stream, (uint64_t)shape.ndim);
        for (int32_t d = 0; d < shape.ndim; d++) hash_number(stream, (uint64_t)shape.dim[d]);
        if (source->file) {
            hash_values(stream, source->match.tensors[p], piece);
        } else {
            hash_number(stream, (uint64_t)param->init);
            hash_stream_add(stream, &param->init_scale, sizeof param->init_scale);
        }
    }
    hash_format(hash_stream_value(stream), out);
fail:
    hash_stream_free(stream);
    free(piece);
    return status;
}
