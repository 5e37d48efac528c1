#include "engine/cuda/dnn_choose.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/log.h"
#include "engine/cuda/dnn_configs.h"
#include "engine/cuda/dnn_measure.h"

/* All operations share one workspace; an engine that wants more than this is taken only where there is no other. */
static const int64_t workspace_limit = (int64_t)1 << 30;
/* Engines that are compiled while planning take seconds each: after these no further ones are tried. */
static const double patience = 8;

static bool welcome(const Dnn *dnn, const DnnConfig *config, bool precise)
{
    uint32_t refused = 1u << CUDNN_NUMERICAL_NOTE_REDUCED_PRECISION_REDUCTION;
    if (dnn->deterministic) refused |= 1u << CUDNN_NUMERICAL_NOTE_NONDETERMINISTIC;
    /* TF32 is what tensor cores do to fp32. The large tiles of Winograd's form lose digits. */
    if (precise)
        refused |= 1u << CUDNN_NUMERICAL_NOTE_TENSOR_CORE | 1u << CUDNN_NUMERICAL_NOTE_DOWN_CONVERT_INPUTS |
                   1u << CUDNN_NUMERICAL_NOTE_WINOGRAD_TILE_6x6 | 1u << CUDNN_NUMERICAL_NOTE_WINOGRAD_TILE_13x13;
    return config->engine >= 0 && (config->numerical & refused) == 0;
}

/* ---- plans ---- */

typedef struct Candidates {
    DnnStep step[DNN_MEASURED_MAX];
    DnnChoice choice[DNN_MEASURED_MAX];
    Hash128 tried[DNN_MODES * DNN_CONFIGS_MAX]; /* configurations: lists repeat what earlier ones had */
    int32_t count, tried_count;
    int32_t wanted;
    DnnConfig last;   /* of the last candidate */
    int64_t drawback; /* of the only one, where no other is without one */
    double deadline;
    char why[512]; /* the last that kept an engine from being one; "": nothing */
} Candidates;

static bool refused(Candidates *c, cudnnStatus_t error)
{
    if (error == CUDNN_STATUS_SUCCESS) return false;
    dnn_error_text(error, c->why, sizeof c->why);
    return true;
}

void dnn_engine_name(const DnnChoice *choice, const char *how, char out[64])
{
    char kernel[24] = "";
    if (choice->position < 0) snprintf(kernel, sizeof kernel, "/%d", -choice->position);
    snprintf(out, 64, "%s %" PRId64 "%s%s", how, choice->engine, kernel, choice->compiled ? "+" : "");
}

/* False where this engine turns the graph down after all. */
static bool finalize(const DnnGraph *g, DnnDesc config, const DnnChoice *choice, Candidates *c, DnnStep *out)
{
    int64_t count = 0;
    *out = (DnnStep){.operands = g->operands};
    memcpy(out->operand, g->operand, sizeof out->operand);
    if (refused(c, cudnnBackendCreateDescriptor(CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR, &out->plan))) return false;
    if (refused(c, cudnnBackendSetAttribute(out->plan, CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG,
                                            CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &config)) ||
        refused(c, cudnnBackendFinalize(out->plan)) ||
        refused(c, cudnnBackendGetAttribute(out->plan, CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE, CUDNN_TYPE_INT64, 1,
                                            &count, &out->workspace))) {
        dnn_step_free(out);
        return false;
    }
    dnn_engine_name(choice, dnn_mode_names[choice->mode], out->engine);
    return true;
}

static bool is_new(Candidates *c, Hash128 hash)
{
    for (int32_t i = 0; i < c->tried_count; i++) {
        if (memcmp(&c->tried[i], &hash, sizeof hash) == 0) return false;
    }
    c->tried[c->tried_count++] = hash;
    return true;
}

/* 0, or how much speaks against a plan: a workspace over the limit, or another library (cuBLASLt) inside. */
static int64_t drawback_of(const DnnStep *step, const DnnConfig *config)
{
    if (step->workspace > workspace_limit) return step->workspace;
    return config->behavior >> CUDNN_BEHAVIOR_NOTE_CUBLASLT_DEPENDENCY & 1u;
}

/* Takes the step over. Those with a drawback count only while there are no others, and of them the one with the least.
 */
static void admit(Candidates *c, DnnStep *step, const DnnChoice *choice, const DnnConfig *config)
{
    const int64_t drawback = drawback_of(step, config);
    if (c->count > 0 && (c->drawback > 0 ? drawback >= c->drawback : drawback > 0)) {
        dnn_step_free(step);
        return;
    }
    if (c->drawback > 0) dnn_step_free(&c->step[--c->count]);
    c->drawback = drawback;
    c->last = *config;
    c->choice[c->count] = *choice;
    c->step[c->count++] = *step;
}

static bool are_enough(const Candidates *c)
{
    return c->count == c->wanted && c->drawback == 0;
}

static void consider(const Dnn *dnn, const DnnGraph *g, const DnnConfig *config, DnnChoice choice, bool precise,
                     Candidates *c)
{
    DnnStep step;
    choice.engine = config->engine;
    choice.compiled = (config->behavior >> CUDNN_BEHAVIOR_NOTE_RUNTIME_COMPILATION & 1u) != 0;
    if (!welcome(dnn, config, precise) || (choice.compiled && c->count > 0 && clock_seconds() > c->deadline) ||
        !is_new(c, config->hash))
        return;
    if (finalize(g, config->desc, &choice, c, &step)) admit(c, &step, &choice, config);
}

static void gather(const Dnn *dnn, DnnGraph *g, DnnDesc graph, bool precise, Candidates *c)
{
    DnnConfig configs[DNN_CONFIGS_MAX];
    c->deadline = clock_seconds() + patience;
    for (int32_t mode = 0; mode < DNN_MODES && !are_enough(c); mode++) {
        /* The last resort is slow and seldom the fastest. */
        if (mode == DNN_MODES - 1 && c->count > 0 && c->drawback == 0) break;
        const int32_t count = dnn_configs(dnn, g, graph, mode, configs);
        for (int32_t i = 0; i < count && !are_enough(c); i++)
            consider(dnn, g, &configs[i], (DnnChoice){.mode = mode, .position = i}, precise, c);
    }
}

static void gather_kernels(const Dnn *dnn, DnnGraph *g, DnnDesc graph, bool precise, Candidates *c)
{
    const DnnConfig proposed = c->last;
    DnnConfig config;
    for (size_t i = 0; i < sizeof g->kernels / sizeof g->kernels[0]; i++) {
        const int64_t kernel = g->kernels[i];
        if (kernel > 0 && dnn_config_with_kernel(dnn, g, graph, &proposed, kernel, &config))
            consider(dnn, g, &config, (DnnChoice){.mode = c->choice[0].mode, .position = -(int32_t)kernel}, precise, c);
    }
}

/* The first, in cuDNN's order, unless another was faster. */
static int32_t pick_fastest(const Candidates *c, const double seconds[DNN_MEASURED_MAX])
{
    int32_t best = 0;
    for (int32_t i = 1; i < c->count; i++) {
        if (seconds[i] < seconds[best]) best = i;
    }
    return best;
}

static Status measure(const Dnn *dnn, const Candidates *c, int32_t *best)
{
    Status status = STATUS_OK;
    double seconds[DNN_MEASURED_MAX];
    TRY(dnn_measure(dnn, c->step, c->count, seconds));
    *best = pick_fastest(c, seconds);
    for (int32_t i = 0; i < c->count; i++)
        log_debug("cuDNN: engine %s: %.1f us%s", c->step[i].engine, seconds[i] * 1e6, i == *best ? ", taken" : "");
    if (!isfinite(seconds[*best])) *best = -1;
fail:
    return status;
}

Status dnn_choose(const Dnn *dnn, DnnGraph *g, bool precise, DnnChoice *choice, DnnStep *out)
{
    Status status = STATUS_OK;
    DnnDesc graph = NULL;
    int32_t best = 0;
    Candidates *c = calloc(1, sizeof *c);
    if (!c) FAIL(ERR_MEMORY, "no memory for candidates");
    TRY(dnn_operation_graph(g, &graph));
    c->wanted = dnn_measures(dnn) ? DNN_MEASURED_MAX : 1;
    gather(dnn, g, graph, precise, c);
    if (c->wanted > 1 && c->count == 1) gather_kernels(dnn, g, graph, precise, c);
    if (c->count == 0)
        FAIL(ERR_UNSUPPORTED, "cuDNN %zu has no engine for it%s%s", cudnnGetVersion(), c->why[0] ? "; the last: " : "",
             c->why);
    if (dnn_measures(dnn) && c->count > 1) TRY(measure(dnn, c, &best));
    const bool measured = dnn_measures(dnn) && best >= 0;
    if (best < 0) best = 0;
    *out = c->step[best];
    *choice = c->choice[best];
    choice->measured = measured;
    c->step[best].plan = NULL;
fail:
    for (int32_t i = 0; c && i < c->count; i++) dnn_step_free(&c->step[i]);
    free(c);
    return status;
}

Status dnn_choose_again(const Dnn *dnn, DnnGraph *g, const DnnChoice *choice, DnnStep *out)
{
    Status status = STATUS_OK;
    DnnDesc graph = NULL;
    DnnConfig configs[DNN_CONFIGS_MAX];
    Candidates *c = calloc(1, sizeof *c);
    if (!c) FAIL(ERR_MEMORY, "no memory for candidates");
    TRY(dnn_operation_graph(g, &graph));
    const int32_t at = choice->position;
    const int32_t count =
        choice->mode >= 0 && choice->mode < DNN_MODES ? dnn_configs(dnn, g, graph, choice->mode, configs) : 0;
    const bool listed = at >= 0 && at < count && configs[at].engine == choice->engine;
    if (!listed || !finalize(g, configs[at].desc, choice, c, out))
        FAIL(ERR_UNSUPPORTED, "engine %" PRId64 " is no longer proposed", choice->engine);
fail:
    free(c);
    return status;
}
