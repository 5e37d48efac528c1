#include "train/held_params.h"

#include <stdio.h>

#include "base/log.h"
#include "model/training_graph.h"
#include "optim/param_groups.h"

/* Every parameter of the model, in a table of its own. */
static Status declare_all(const ModelConfig *model, ParamTable **out)
{
    Status status = STATUS_OK;
    ParamTable *table = NULL;
    TRY(param_table_create(&table));
    TRY(model_declare_params(table, model));
    *out = table;
    return STATUS_OK;
fail:
    param_table_free(table);
    return status;
}

Status held_params_check(const RunConfig *run, const Config *config)
{
    Status status = STATUS_OK;
    ParamTable *table = NULL;
    if (run->optim.groups.count == 0) return STATUS_OK;
    TRY(declare_all(&run->model, &table));
    TRY(param_groups_check(&run->optim, table, config, "optim"));
fail:
    param_table_free(table);
    return status;
}

Status held_params_declare(const RunConfig *run, ParamTable *params)
{
    Status status = STATUS_OK;
    ParamTable *table = NULL;
    AdamwGroup factors[UPDATE_GROUPS_MAX];
    if (run->optim.groups.count == 0) return STATUS_OK;
    param_group_factors(&run->optim, factors);
    TRY(declare_all(&run->model, &table));
    for (int32_t i = 0; i < param_table_size(table); i++) {
        Param param = *param_table_get(table, i);
        int32_t index;
        if (!param.trainable || factors[param_group_of(&run->optim, param.name)].lr > 0) continue;
        param.held = true;
        TRY(param_table_add(params, &param, &index));
    }
fail:
    param_table_free(table);
    return status;
}

/* Whether a convolution's (O,KH,KW,C) weights of channels from `first` on are all zero. */
static bool channels_are_zero(const ParamStore *store, int32_t index, int64_t first)
{
    const Param *param = param_table_get(store->table, index);
    const float *weights = param_store_weight(store, index);
    const int64_t channels = param->shape.dim[param->shape.ndim - 1];
    for (int64_t i = 0; i < param->count; i++)
        if (i % channels >= first && weights[i] != 0) return false;
    return true;
}

Status held_params_check_widened(const RunConfig *run, const Config *config, const ParamStore *store)
{
    static const char first[] = "input_blocks.0.0.weight";
    Status status = STATUS_OK;
    char key[48];
    const int32_t index = param_table_find(store->table, first);
    if (!model_paints(&run->model) || index < 0 || !param_table_get(store->table, index)->held) return STATUS_OK;
    if (!channels_are_zero(store, index, model_latent_channels(&run->model))) return STATUS_OK;
    const int32_t group = param_group_of(&run->optim, first) - 1;
    snprintf(key, sizeof key, "optim.groups[%d]", group);
    FAIL_WITH(config_error(config, key,
                           "%s holds %s (lr 0), whose weights for picture and mask are zero, as widening for "
                           "inpainting leaves them: held, the network would never see either; put {match: %s} before "
                           "this group, or give the group an lr above 0",
                           ((const OptimGroup *)run->optim.groups.items)[group].match, first, first));
fail:
    return status;
}

int64_t held_params_count(const ParamTable *params)
{
    int64_t count = 0;
    for (int32_t i = 0; i < param_table_size(params); i++)
        if (param_table_get(params, i)->held) count += param_table_get(params, i)->count;
    return count;
}

void held_params_log(const RunConfig *run, const ParamTable *params)
{
    const OptimGroup *groups = run->optim.groups.items;
    if (run->optim.groups.count == 0) return;
    for (size_t g = 0; g < run->optim.groups.count; g++) {
        int64_t names = 0, count = 0;
        for (int32_t i = 0; i < param_table_size(params); i++) {
            const Param *param = param_table_get(params, i);
            if (!param->trainable || param_group_of(&run->optim, param->name) != (int32_t)g + 1) continue;
            names++;
            count += param->count;
        }
        log_info("optim.groups[%zu]: %s: %lld parameters of %.3f M elements: lr x %g, weight decay x %g%s", g,
                 groups[g].match, (long long)names, (double)count / 1e6, groups[g].lr, groups[g].weight_decay,
                 groups[g].lr > 0 ? "" : ": held as they are");
    }
    log_info("%.3f M of %.3f M elements are trained",
             (double)(param_table_trainable_parameters(params) - held_params_count(params)) / 1e6,
             (double)param_table_trainable_parameters(params) / 1e6);
}
