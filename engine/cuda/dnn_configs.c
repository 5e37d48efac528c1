#include "engine/cuda/dnn_configs.h"

static const cudnnBackendHeurMode_t modes[DNN_MODES] = {CUDNN_HEUR_MODE_A, CUDNN_HEUR_MODE_B, CUDNN_HEUR_MODE_FALLBACK};
const char *const dnn_mode_names[DNN_MODES] = {"A", "B", "F"};

Status dnn_operation_graph(DnnGraph *g, DnnDesc *out)
{
    Status status = g->status;
    if (status != STATUS_OK) goto fail;
    *out = dnn_begin(g, CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR);
    if (!*out) TRY(g->status);
    TRY_DNN(
        cudnnBackendSetAttribute(*out, CUDNN_ATTR_OPERATIONGRAPH_OPS, CUDNN_TYPE_BACKEND_DESCRIPTOR, g->ops, g->op));
    TRY_DNN(cudnnBackendFinalize(*out));
fail:
    return status;
}

static bool set_part(DnnDesc desc, cudnnBackendAttributeName_t name, DnnDesc part)
{
    return cudnnBackendSetAttribute(desc, name, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &part) == CUDNN_STATUS_SUCCESS;
}

/* ---- what a configuration is ---- */

static bool get_notes(DnnDesc engine, cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type,
                      uint32_t *bits)
{
    int32_t values[32]; /* enumerations */
    int64_t count = 0;
    if (cudnnBackendGetAttribute(engine, name, type, 32, &count, values) != CUDNN_STATUS_SUCCESS || count > 32)
        return false;
    for (int64_t i = 0; i < count; i++) *bits |= 1u << (values[i] & 31);
    return true;
}

static bool get_engine(DnnDesc desc, DnnConfig *config)
{
    int64_t count = 0;
    DnnDesc engine = NULL;
    if (cudnnBackendCreateDescriptor(CUDNN_BACKEND_ENGINE_DESCRIPTOR, &engine) != CUDNN_STATUS_SUCCESS) return false;
    const bool got =
        cudnnBackendGetAttribute(desc, CUDNN_ATTR_ENGINECFG_ENGINE, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &count,
                                 &engine) == CUDNN_STATUS_SUCCESS &&
        cudnnBackendGetAttribute(engine, CUDNN_ATTR_ENGINE_GLOBAL_INDEX, CUDNN_TYPE_INT64, 1, &count,
                                 &config->engine) == CUDNN_STATUS_SUCCESS &&
        get_notes(engine, CUDNN_ATTR_ENGINE_NUMERICAL_NOTE, CUDNN_TYPE_NUMERICAL_NOTE, &config->numerical) &&
        get_notes(engine, CUDNN_ATTR_ENGINE_BEHAVIOR_NOTE, CUDNN_TYPE_BEHAVIOR_NOTE, &config->behavior);
    cudnnBackendDestroyDescriptor(engine);
    return got;
}

/* Knobs come in no fixed order: their hashes are added. */
static bool add_knob(DnnDesc knob, Hash128 *sum)
{
    int32_t type = 0; /* an enumeration */
    int64_t count = 0, pair[2];
    if (cudnnBackendGetAttribute(knob, CUDNN_ATTR_KNOB_CHOICE_KNOB_TYPE, CUDNN_TYPE_KNOB_TYPE, 1, &count, &type) !=
            CUDNN_STATUS_SUCCESS ||
        cudnnBackendGetAttribute(knob, CUDNN_ATTR_KNOB_CHOICE_KNOB_VALUE, CUDNN_TYPE_INT64, 1, &count, &pair[1]) !=
            CUDNN_STATUS_SUCCESS)
        return false;
    pair[0] = type;
    const Hash128 hash = hash_memory(pair, sizeof pair);
    sum->low += hash.low;
    sum->high += hash.high;
    return true;
}

/* Asked for how many knobs there are, cuDNN says 0: it wants room for all that there could be. */
static bool get_hash(DnnDesc desc, DnnConfig *config)
{
    enum { KNOBS = 64 };
    DnnDesc knobs[KNOBS] = {NULL};
    int64_t count = 0, made = 0;
    config->hash = hash_memory(&config->engine, sizeof config->engine);
    while (made < KNOBS &&
           cudnnBackendCreateDescriptor(CUDNN_BACKEND_KNOB_CHOICE_DESCRIPTOR, &knobs[made]) == CUDNN_STATUS_SUCCESS)
        made++;
    bool got = made == KNOBS &&
               cudnnBackendGetAttribute(desc, CUDNN_ATTR_ENGINECFG_KNOB_CHOICES, CUDNN_TYPE_BACKEND_DESCRIPTOR, KNOBS,
                                        &count, knobs) == CUDNN_STATUS_SUCCESS;
    for (int64_t i = 0; i < count && got; i++) got = add_knob(knobs[i], &config->hash);
    for (int64_t i = 0; i < made; i++) cudnnBackendDestroyDescriptor(knobs[i]);
    return got;
}

static DnnConfig config_of(DnnDesc desc)
{
    DnnConfig config = {.desc = desc};
    if (!get_engine(desc, &config) || !get_hash(desc, &config)) config.engine = -1;
    return config;
}

/* ---- where they come from ---- */

int32_t dnn_configs(const Dnn *dnn, DnnGraph *g, DnnDesc graph, int32_t mode, DnnConfig out[DNN_CONFIGS_MAX])
{
    DnnDesc configs[DNN_CONFIGS_MAX], heuristics = dnn_begin(g, CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR);
    int64_t count = 0, got = 0;
    if (!heuristics || !set_part(heuristics, CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH, graph) ||
        cudnnBackendSetAttribute(heuristics, CUDNN_ATTR_ENGINEHEUR_MODE, CUDNN_TYPE_HEUR_MODE, 1, &modes[mode]) !=
            CUDNN_STATUS_SUCCESS ||
        !set_part(heuristics, CUDNN_ATTR_ENGINEHEUR_DEVICEPROP, dnn->device) ||
        cudnnBackendFinalize(heuristics) != CUDNN_STATUS_SUCCESS ||
        cudnnBackendGetAttribute(heuristics, CUDNN_ATTR_ENGINEHEUR_RESULTS, CUDNN_TYPE_BACKEND_DESCRIPTOR, 0, &count,
                                 NULL) != CUDNN_STATUS_SUCCESS)
        return 0;
    if (count > DNN_CONFIGS_MAX) count = DNN_CONFIGS_MAX;
    for (int64_t i = 0; i < count; i++) {
        configs[i] = dnn_begin(g, CUDNN_BACKEND_ENGINECFG_DESCRIPTOR);
        if (!configs[i]) return 0;
    }
    if (cudnnBackendGetAttribute(heuristics, CUDNN_ATTR_ENGINEHEUR_RESULTS, CUDNN_TYPE_BACKEND_DESCRIPTOR, count, &got,
                                 configs) != CUDNN_STATUS_SUCCESS)
        return 0;
    if (got < count) count = got;
    for (int64_t i = 0; i < count; i++) out[i] = config_of(configs[i]);
    return (int32_t)count;
}

bool dnn_config_with_kernel(const Dnn *dnn, DnnGraph *g, DnnDesc graph, const DnnConfig *like, int64_t kernel,
                            DnnConfig *out)
{
    const int32_t type = CUDNN_KNOB_TYPE_KERNEL_CFG;
    DnnDesc engine = dnn_begin(g, CUDNN_BACKEND_ENGINE_DESCRIPTOR), knob = NULL, config = NULL;
    if (!engine || !set_part(engine, CUDNN_ATTR_ENGINE_OPERATION_GRAPH, graph) ||
        cudnnBackendSetAttribute(engine, CUDNN_ATTR_ENGINE_GLOBAL_INDEX, CUDNN_TYPE_INT64, 1, &like->engine) !=
            CUDNN_STATUS_SUCCESS ||
        !set_part(engine, CUDNN_ATTR_ENGINE_DEVICEPROP, dnn->device) ||
        cudnnBackendFinalize(engine) != CUDNN_STATUS_SUCCESS)
        return false;
    knob = dnn_begin(g, CUDNN_BACKEND_KNOB_CHOICE_DESCRIPTOR);
    if (!knob ||
        cudnnBackendSetAttribute(knob, CUDNN_ATTR_KNOB_CHOICE_KNOB_TYPE, CUDNN_TYPE_KNOB_TYPE, 1, &type) !=
            CUDNN_STATUS_SUCCESS ||
        cudnnBackendSetAttribute(knob, CUDNN_ATTR_KNOB_CHOICE_KNOB_VALUE, CUDNN_TYPE_INT64, 1, &kernel) !=
            CUDNN_STATUS_SUCCESS ||
        cudnnBackendFinalize(knob) != CUDNN_STATUS_SUCCESS)
        return false;
    config = dnn_begin(g, CUDNN_BACKEND_ENGINECFG_DESCRIPTOR);
    if (!config || !set_part(config, CUDNN_ATTR_ENGINECFG_ENGINE, engine) ||
        !set_part(config, CUDNN_ATTR_ENGINECFG_KNOB_CHOICES, knob) ||
        cudnnBackendFinalize(config) != CUDNN_STATUS_SUCCESS)
        return false;
    *out = config_of(config);
    return out->engine == like->engine;
}
