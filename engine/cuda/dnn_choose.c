#include "engine/cuda/dnn_choose.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/log.h"
#include "engine/cuda/dnn_measure.h"

/* All operations share one workspace; an engine that wants more than this is taken only where there is no other. */
static const int64_t workspace_limit = (int64_t)1 << 30;
/* Engines that are compiled while planning take seconds each: after these no further ones are tried. */
static const double patience = 8;
enum { LISTED = 32, MEASURED = 8 };

static const cudnnBackendHeurMode_t modes[] = {CUDNN_HEUR_MODE_A, CUDNN_HEUR_MODE_B, CUDNN_HEUR_MODE_FALLBACK};
static const char *const mode_names[] = {"A", "B", "F"};
enum { MODES = sizeof modes / sizeof modes[0] };

/* ---- what cuDNN proposes ---- */

static Status operation_graph(DnnGraph *g, DnnDesc *out)
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

/* Engine configurations in cuDNN's order of preference; none where this kind of heuristics does not know the graph. */
static int32_t list(const Dnn *dnn, DnnGraph *g, DnnDesc graph, int32_t mode, DnnDesc configs[LISTED])
{
    DnnDesc heuristics = dnn_begin(g, CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR);
    int64_t count = 0, got = 0;
    if (!heuristics ||
        cudnnBackendSetAttribute(heuristics, CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1,
                                 &graph) != CUDNN_STATUS_SUCCESS ||
        cudnnBackendSetAttribute(heuristics, CUDNN_ATTR_ENGINEHEUR_MODE, CUDNN_TYPE_HEUR_MODE, 1, &modes[mode]) !=
            CUDNN_STATUS_SUCCESS ||
        cudnnBackendSetAttribute(heuristics, CUDNN_ATTR_ENGINEHEUR_DEVICEPROP, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1,
                                 &dnn->device) != CUDNN_STATUS_SUCCESS ||
        cudnnBackendFinalize(heuristics) != CUDNN_STATUS_SUCCESS ||
        cudnnBackendGetAttribute(heuristics, CUDNN_ATTR_ENGINEHEUR_RESULTS, CUDNN_TYPE_BACKEND_DESCRIPTOR, 0, &count,
                                 NULL) != CUDNN_STATUS_SUCCESS)
        return 0;
    if (count > LISTED) count = LISTED;
    for (int64_t i = 0; i < count; i++) {
        configs[i] = dnn_begin(g, CUDNN_BACKEND_ENGINECFG_DESCRIPTOR);
        if (!configs[i]) return 0;
    }
    if (cudnnBackendGetAttribute(heuristics, CUDNN_ATTR_ENGINEHEUR_RESULTS, CUDNN_TYPE_BACKEND_DESCRIPTOR, count, &got,
                                 configs) != CUDNN_STATUS_SUCCESS)
        return 0;
    return (int32_t)(got < count ? got : count);
}

typedef struct Engine {
    int64_t index;
    uint32_t numerical, behavior; /* bit k: note k */
} Engine;

static uint32_t notes(DnnDesc engine, cudnnBackendAttributeName_t name, cudnnBackendAttributeType_t type)
{
    int32_t values[32]; /* enumerations */
    int64_t count = 0;
    uint32_t bits = 0;
    if (cudnnBackendGetAttribute(engine, name, type, 32, &count, values) != CUDNN_STATUS_SUCCESS) return 0;
    for (int64_t i = 0; i < count && i < 32; i++) bits |= 1u << (values[i] & 31);
    return bits;
}

static Engine engine_of(DnnDesc config)
{
    Engine out = {.index = -1};
    DnnDesc engine = NULL;
    int64_t count = 0;
    if (cudnnBackendCreateDescriptor(CUDNN_BACKEND_ENGINE_DESCRIPTOR, &engine) != CUDNN_STATUS_SUCCESS) return out;
    if (cudnnBackendGetAttribute(config, CUDNN_ATTR_ENGINECFG_ENGINE, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &count,
                                 &engine) == CUDNN_STATUS_SUCCESS) {
        cudnnBackendGetAttribute(engine, CUDNN_ATTR_ENGINE_GLOBAL_INDEX, CUDNN_TYPE_INT64, 1, &count, &out.index);
        out.numerical = notes(engine, CUDNN_ATTR_ENGINE_NUMERICAL_NOTE, CUDNN_TYPE_NUMERICAL_NOTE);
        out.behavior = notes(engine, CUDNN_ATTR_ENGINE_BEHAVIOR_NOTE, CUDNN_TYPE_BEHAVIOR_NOTE);
    }
    cudnnBackendDestroyDescriptor(engine);
    return out;
}

static bool welcome(const Dnn *dnn, const Engine *engine, bool precise)
{
    uint32_t refused = 1u << CUDNN_NUMERICAL_NOTE_REDUCED_PRECISION_REDUCTION;
    if (dnn->deterministic) refused |= 1u << CUDNN_NUMERICAL_NOTE_NONDETERMINISTIC;
    /* TF32 is what tensor cores do to fp32. The large tiles of Winograd's form lose digits. */
    if (precise)
        refused |= 1u << CUDNN_NUMERICAL_NOTE_TENSOR_CORE | 1u << CUDNN_NUMERICAL_NOTE_DOWN_CONVERT_INPUTS |
                   1u << CUDNN_NUMERICAL_NOTE_WINOGRAD_TILE_6x6 | 1u << CUDNN_NUMERICAL_NOTE_WINOGRAD_TILE_13x13;
    return engine->index >= 0 && (engine->numerical & refused) == 0;
}

/* ---- plans ---- */

/* False where this engine turns the graph down after all. */
static bool finalize(const DnnGraph *g, DnnDesc config, const DnnChoice *choice, DnnStep *out)
{
    int64_t count = 0;
    *out = (DnnStep){.operands = g->operands};
    memcpy(out->operand, g->operand, sizeof out->operand);
    if (cudnnBackendCreateDescriptor(CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR, &out->plan) != CUDNN_STATUS_SUCCESS)
        return false;
    if (cudnnBackendSetAttribute(out->plan, CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1,
                                 &config) != CUDNN_STATUS_SUCCESS ||
        cudnnBackendFinalize(out->plan) != CUDNN_STATUS_SUCCESS ||
        cudnnBackendGetAttribute(out->plan, CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE, CUDNN_TYPE_INT64, 1, &count,
                                 &out->workspace) != CUDNN_STATUS_SUCCESS) {
        dnn_step_free(out);
        return false;
    }
    snprintf(out->engine, sizeof out->engine, "%s %" PRId64 "%s", mode_names[choice->mode], choice->engine,
             choice->compiled ? "+" : "");
    return true;
}

/* What tells two plans of one graph apart: the end of their text, from "engine" on; empty where there is no text. */
static void signature(const DnnStep *step, char out[512])
{
    out[0] = '\0';
    int64_t size = 0;
    if (cudnnBackendGetAttribute(step->plan, CUDNN_ATTR_EXECUTION_PLAN_JSON_REPRESENTATION, CUDNN_TYPE_CHAR, 0, &size,
                                 NULL) != CUDNN_STATUS_SUCCESS ||
        size <= 0)
        return;
    char *text = malloc((size_t)size + 1);
    if (text && cudnnBackendGetAttribute(step->plan, CUDNN_ATTR_EXECUTION_PLAN_JSON_REPRESENTATION, CUDNN_TYPE_CHAR,
                                         size, &size, text) == CUDNN_STATUS_SUCCESS) {
        text[size] = '\0';
        const char *at = strstr(text, "\"engine\":");
        snprintf(out, 512, "%s", at ? at : "");
    }
    free(text);
}

typedef struct Candidates {
    DnnStep step[MEASURED];
    DnnChoice choice[MEASURED];
    char signature[MEASURED][512];
    int32_t count;
} Candidates;

static bool is_known(const Candidates *c, const char *text)
{
    for (int32_t i = 0; i < c->count; i++) {
        if (text[0] && strcmp(c->signature[i], text) == 0) return true;
    }
    return false;
}

/* True once there are enough. */
static bool gather_mode(const Dnn *dnn, DnnGraph *g, DnnDesc graph, int32_t mode, bool precise, int32_t wanted,
                        double deadline, Candidates *c)
{
    DnnDesc configs[LISTED];
    const int32_t count = list(dnn, g, graph, mode, configs);
    for (int32_t i = 0; i < count; i++) {
        const Engine engine = engine_of(configs[i]);
        const DnnChoice choice = {.mode = mode,
                                  .position = i,
                                  .engine = engine.index,
                                  .compiled = (engine.behavior >> CUDNN_BEHAVIOR_NOTE_RUNTIME_COMPILATION & 1u) != 0};
        if (!welcome(dnn, &engine, precise) || (choice.compiled && c->count > 0 && clock_seconds() > deadline))
            continue;
        DnnStep *step = &c->step[c->count];
        if (!finalize(g, configs[i], &choice, step)) continue;
        if (c->count > 0 && step->workspace > workspace_limit) {
            dnn_step_free(step);
            continue;
        }
        if (wanted > 1) {
            signature(step, c->signature[c->count]);
            if (is_known(c, c->signature[c->count])) {
                dnn_step_free(step);
                continue;
            }
        }
        c->choice[c->count++] = choice;
        if (wanted == 1 && step->workspace <= workspace_limit) return true;
        if (c->count == MEASURED || (wanted > 1 && c->count == wanted)) return true;
    }
    return false;
}

static void gather(const Dnn *dnn, DnnGraph *g, DnnDesc graph, bool precise, int32_t wanted, Candidates *c)
{
    const double deadline = clock_seconds() + patience;
    for (int32_t mode = 0; mode < MODES; mode++) {
        /* The last resort is slow and seldom the fastest. */
        if (modes[mode] == CUDNN_HEUR_MODE_FALLBACK && c->count > 0) break;
        if (gather_mode(dnn, g, graph, mode, precise, wanted, deadline, c)) break;
    }
}

/* Without times: the first that keeps to the limit, else that with the smallest workspace. */
static int32_t pick_unmeasured(const Candidates *c)
{
    int32_t best = 0;
    for (int32_t i = 1; i < c->count; i++) {
        if (c->step[best].workspace > workspace_limit && c->step[i].workspace < c->step[best].workspace) best = i;
    }
    return best;
}

static int32_t pick_fastest(const Candidates *c, const double seconds[MEASURED])
{
    int32_t best = pick_unmeasured(c);
    for (int32_t i = 0; i < c->count; i++) {
        const bool fits = c->step[i].workspace <= workspace_limit || c->step[best].workspace > workspace_limit;
        if (fits && seconds[i] < seconds[best]) best = i;
    }
    return best;
}

Status dnn_choose(const Dnn *dnn, DnnGraph *g, bool precise, DnnChoice *choice, DnnStep *out)
{
    Status status = STATUS_OK;
    DnnDesc graph = NULL;
    Candidates *c = calloc(1, sizeof *c);
    if (!c) FAIL(ERR_MEMORY, "no memory for candidates");
    TRY(operation_graph(g, &graph));
    /* A measured choice may be another the next time, and with it the bits of the results. */
    const bool measures = dnn->handle && !dnn->deterministic;
    gather(dnn, g, graph, precise, measures ? MEASURED : 1, c);
    if (c->count == 0) FAIL(ERR_UNSUPPORTED, "cuDNN %zu has no engine for it", cudnnGetVersion());
    int32_t best = pick_unmeasured(c);
    if (measures && c->count > 1) {
        double seconds[MEASURED];
        TRY(dnn_measure(dnn, c->step, c->count, seconds));
        best = pick_fastest(c, seconds);
        for (int32_t i = 0; i < c->count; i++)
            log_debug("cuDNN: engine %s: %.1f us%s", c->step[i].engine, seconds[i] * 1e6, i == best ? ", taken" : "");
    }
    *out = c->step[best];
    *choice = c->choice[best];
    c->step[best].plan = NULL;
fail:
    for (int32_t i = 0; c && i < c->count; i++) dnn_step_free(&c->step[i]);
    free(c);
    return status;
}

Status dnn_choose_again(const Dnn *dnn, DnnGraph *g, const DnnChoice *choice, DnnStep *out)
{
    Status status = STATUS_OK;
    DnnDesc graph = NULL, configs[LISTED];
    TRY(operation_graph(g, &graph));
    const int32_t count = choice->mode >= 0 && choice->mode < MODES ? list(dnn, g, graph, choice->mode, configs) : 0;
    const bool listed = choice->position >= 0 && choice->position < count &&
                        engine_of(configs[choice->position]).index == choice->engine;
    if (!listed || !finalize(g, configs[choice->position], choice, out))
        FAIL(ERR_UNSUPPORTED, "engine %" PRId64 " is no longer proposed", choice->engine);
fail:
    return status;
}
