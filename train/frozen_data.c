#include "train/frozen_data.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/hash.h"
#include "base/json.h"
#include "base/log.h"
#include "model/autoencoder.h"
#include "model/frozen_weights.h"
#include "model/text_encoder.h"

/* ---- fingerprints of the weights ---- */

static const char *weights_of(const ModelConfig *model, int network)
{
    switch (network) {
    case FROZEN_TEXT1:
        return model->text_encoder1.weights;
    case FROZEN_TEXT2:
        return model->text_encoder2.weights;
    default:
        return model->autoencoder.kind == AUTOENCODER_KL ? model->autoencoder.weights : "";
    }
}

static bool is_there(const char *path)
{
    return !path[0] || file_exists(path);
}

/* The frozen networks that `wanted` names, in a table of their own. */
static Status declare(const ModelConfig *model, const bool wanted[PRECOMPUTED_KINDS], ParamTable *params)
{
    Status status = STATUS_OK;
    Graph *g = NULL;
    TRY(graph_create(params, DTYPE_F32, &g));
    if (wanted[PRECOMPUTED_TEXT]) {
        TensorId tokens = graph_input(g, "tokens", DTYPE_I32, SHAPE2(1, model->max_tokens), false);
        TensorId mask = graph_input(g, "mask", DTYPE_I32, SHAPE2(1, model->max_tokens), false);
        (void)text_encoders_forward(g, model, tokens, mask, tokens, mask);
    }
    if (wanted[PRECOMPUTED_LATENTS]) autoencoder_declare_params(g, model, true, false);
    TRY(graph_status(g));
    TRY(param_table_layout(params, NULL, 0));
fail:
    graph_free(g);
    return status;
}

/* "" for a network whose file is not there (with `all`: an error), or that has no weights. */
static Status fingerprints(const RunConfig *run, const bool wanted[PRECOMPUTED_KINDS], bool all,
                           char out[FROZEN_NETWORK_COUNT][33])
{
    Status status = STATUS_OK;
    ModelConfig model = run->model;
    bool absent[FROZEN_NETWORK_COUNT];
    ParamTable *params = NULL;
    ParamStore store = {0};
    FrozenWeights *frozen = NULL;
    const bool needed[] = {wanted[PRECOMPUTED_LATENTS], wanted[PRECOMPUTED_TEXT], wanted[PRECOMPUTED_TEXT]};
    for (int n = 0; n < FROZEN_NETWORK_COUNT; n++) absent[n] = !needed[n] || (!all && !is_there(weights_of(&model, n)));
    if (absent[FROZEN_AUTOENCODER]) model.autoencoder.weights = "";
    if (absent[FROZEN_TEXT1]) model.text_encoder1.weights = "";
    if (absent[FROZEN_TEXT2]) model.text_encoder2.weights = "";
    TRY(param_table_create(&params));
    TRY(declare(&model, wanted, params));
    TRY(param_store_create(params, false, &store));
    TRY(frozen_weights_load(&model, &store, &frozen));
    for (int n = 0; n < FROZEN_NETWORK_COUNT; n++) {
        out[n][0] = 0;
        if (!absent[n]) TRY(frozen_weights_fingerprint(frozen, (FrozenNetwork)n, (uint64_t)run->seed, out[n]));
    }
fail:
    param_store_free(&store);
    frozen_weights_free(frozen);
    param_table_free(params);
    return status;
}

/* ---- facts ---- */

static Status autoencoder_fact(const ModelConfig *model, const char *fingerprint, PrecomputedFacts *facts)
{
    Status status = STATUS_OK;
    const AutoencoderConfig *a = &model->autoencoder;
    static const char key[] = "model.autoencoder";
    char scale[40], whiten[40];
    StrBuf levels = {0};
    float_format(a->scale, scale);
    float_format(a->whiten, whiten);
    long long channels = (long long)model_latent_channels(model);
    if (a->kind == AUTOENCODER_KL) { /* its scale comes after the moments */
        for (size_t i = 0; i < a->channel_mult.count; i++)
            TRY(strbuf_printf(&levels, "%s%lld", i ? " " : "", (long long)a->channel_mult.items[i]));
        TRY(precomputed_facts_add(facts, key, "kl, %lld channels x (%s), %lld blocks, latent channels %lld, weights %s",
                                  (long long)a->channels, levels.data, (long long)a->res_blocks, channels,
                                  fingerprint));
    } else if (a->kind == AUTOENCODER_PATCH) {
        TRY(precomputed_facts_add(facts, key, "patch, factor %lld, latent channels %lld, scale %s, whiten %s",
                                  (long long)a->factor, channels, scale, whiten));
    } else {
        TRY(precomputed_facts_add(facts, key, "none, scale %s", scale));
    }
fail:
    strbuf_free(&levels);
    return status;
}

static Status text_encoder_facts(const ModelConfig *model, const char *fingerprint1, const char *fingerprint2,
                                 PrecomputedFacts *facts)
{
    Status status = STATUS_OK;
    const XlmrConfig *x = &model->text_encoder1;
    const Mt5Config *m = &model->text_encoder2;
    TRY(precomputed_facts_add(facts, "model.max_tokens", "%lld", (long long)model->max_tokens));
    if (fingerprint1[0])
        TRY(precomputed_facts_add(facts, "model.text_encoder1",
                                  "%lld layers, %lld heads, width %lld, pooled %lld, weights %s", (long long)x->layers,
                                  (long long)x->heads, (long long)model->text1_dim, (long long)model->pooled_dim,
                                  fingerprint1));
    if (fingerprint2[0])
        TRY(precomputed_facts_add(facts, "model.text_encoder2",
                                  "%lld layers, %lld heads of %lld, width %lld, %lld buckets to %lld, weights %s",
                                  (long long)m->layers, (long long)m->heads, (long long)m->head_channels,
                                  (long long)model->text2_dim, (long long)m->buckets, (long long)m->max_distance,
                                  fingerprint2));
fail:
    return status;
}

static Status tokenizer_fact(const TokenizerConfig *tokenizer, int which, bool all, PrecomputedFacts *facts)
{
    Status status = STATUS_OK;
    static const char *const styles[] = {"xlmr", "mt5"};
    char key[32], digits[33];
    Hash128 hash;
    int64_t size;
    if (!all && !file_exists(tokenizer->model)) return STATUS_OK;
    TRY(hash_file(tokenizer->model, &hash, &size));
    hash_format(hash, digits);
    snprintf(key, sizeof key, "data.tokenizer%d", which);
    TRY(precomputed_facts_add(facts, key, "%s, %lld tokens, model %s", styles[tokenizer->style],
                              (long long)tokenizer->max_tokens, digits));
fail:
    return status;
}

static Status collect(const RunConfig *run, bool all, PrecomputedSpec *spec)
{
    Status status = STATUS_OK;
    char found[FROZEN_NETWORK_COUNT][33];
    PrecomputedFacts *latents = &spec->facts[PRECOMPUTED_LATENTS], *text = &spec->facts[PRECOMPUTED_TEXT];
    TRY(fingerprints(run, spec->wanted, all, found));
    if (spec->wanted[PRECOMPUTED_LATENTS]) {
        TRY(precomputed_facts_add(latents, "train.resolution", "%lld", (long long)spec->resolution));
        if (run->data.scaled_decode) TRY(precomputed_facts_add(latents, "data.scaled_decode", "true"));
        if (run->model.autoencoder.kind != AUTOENCODER_KL || found[FROZEN_AUTOENCODER][0])
            TRY(autoencoder_fact(&run->model, found[FROZEN_AUTOENCODER], latents));
    }
    if (spec->wanted[PRECOMPUTED_TEXT]) {
        TRY(text_encoder_facts(&run->model, found[FROZEN_TEXT1], found[FROZEN_TEXT2], text));
        TRY(tokenizer_fact(&run->data.tokenizer1, 1, all, text));
        TRY(tokenizer_fact(&run->data.tokenizer2, 2, all, text));
    }
fail:
    return status;
}

/* ---- the same for all ranks ---- */

static Status pack(const PrecomputedSpec *spec, StrBuf *out)
{
    Status status = STATUS_OK;
    for (int kind = 0; kind < PRECOMPUTED_KINDS; kind++)
        for (size_t i = 0; i < spec->facts[kind].count; i++) {
            const PrecomputedFact *fact = &spec->facts[kind].items[i];
            TRY(strbuf_printf(out, "%d%s", kind, fact->key));
            TRY(strbuf_append(out, "", 1));
            TRY(strbuf_append(out, fact->value, strlen(fact->value) + 1));
        }
fail:
    return status;
}

static Status unpack(const char *text, size_t size, PrecomputedSpec *spec)
{
    Status status = STATUS_OK;
    for (const char *at = text; at < text + size;) {
        const char *value = at + strlen(at) + 1;
        TRY(precomputed_facts_add(&spec->facts[at[0] - '0'], at + 1, "%s", value));
        at = value + strlen(value) + 1;
    }
fail:
    return status;
}

static Status share(Comm *comm, PrecomputedSpec *spec)
{
    Status status = STATUS_OK;
    StrBuf text = {0};
    char *received = NULL;
    int64_t size = 0;
    bool root = comm_rank(comm) == 0;
    if (root) TRY(pack(spec, &text));
    size = (int64_t)text.size;
    TRY(comm_broadcast(comm, &size, sizeof size, 0));
    received = mem_alloc_array((size_t)size + 1, 1);
    if (!received) FAIL(ERR_MEMORY, "out of memory");
    if (root && text.data) memcpy(received, text.data, (size_t)size);
    TRY(comm_broadcast(comm, received, (size_t)size, 0));
    if (!root) TRY(unpack(received, (size_t)size, spec));
fail:
    free(received);
    strbuf_free(&text);
    return status;
}

/* ---- the spec ---- */

void frozen_spec_sizes(const RunConfig *run, PrecomputedSpec *out)
{
    const ModelConfig *m = &run->model;
    *out = (PrecomputedSpec){
        .wanted = {run->frozen.latents == FROZEN_PRECOMPUTED, run->frozen.text == FROZEN_PRECOMPUTED},
        .path = run->frozen.path,
        .type = (PrecomputedType)run->frozen.dtype,
        .resolution = run->train.resolution,
        .side = model_latent_size(m, run->train.resolution),
        .moments = model_moment_channels(m),
        .tokens = m->max_tokens,
        .width1 = m->text1_dim,
        .pooled = m->pooled_dim,
        .width2 = m->text2_dim,
        .valid_rows = m->text_rows == TEXT_ROWS_VALID,
    };
    _Static_assert(sizeof out->stage == sizeof run->stage, "the names of stages");
    memcpy(out->stage, run->stage, sizeof out->stage);
}

Status frozen_spec_create(const RunConfig *run, Comm *comm, bool all, PrecomputedSpec *out)
{
    Status status = STATUS_OK;
    frozen_spec_sizes(run, out);
    if (!out->wanted[PRECOMPUTED_LATENTS] && !out->wanted[PRECOMPUTED_TEXT]) return STATUS_OK;
    if (!comm || comm_rank(comm) == 0) TRY(collect(run, all, out));
    if (comm && comm_world(comm) > 1) TRY(share(comm, out));
    return STATUS_OK;
fail:
    precomputed_spec_free(out);
    return status;
}

bool frozen_reads_shards(const PrecomputedSpec *spec)
{
    return !spec->wanted[PRECOMPUTED_LATENTS] || !spec->wanted[PRECOMPUTED_TEXT];
}

Status frozen_list_shards(const SourceConfig *source, const PrecomputedSpec *spec, ShardList *list)
{
    Status status = STATUS_OK;
    for (size_t i = 0; i < source->shards.count; i++) {
        const char *pattern = source->shards.items[i];
        if (frozen_reads_shards(spec))
            TRY(shard_list_add(pattern, list));
        else
            TRY(precomputed_list_shards(spec, source->name, pattern, list));
    }
fail:
    return status;
}

bool frozen_can_draw(const RunConfig *run, const char **missing)
{
    const char *const paths[] = {run->data.tokenizer1.model, run->data.tokenizer2.model};
    *missing = NULL;
    for (int n = 0; n < FROZEN_NETWORK_COUNT && !*missing; n++)
        if (!is_there(weights_of(&run->model, n))) *missing = weights_of(&run->model, n);
    for (int t = 0; t < 2 && !*missing; t++)
        if (!file_exists(paths[t])) *missing = paths[t];
    return *missing == NULL;
}
