#include "optim/optim_config.h"

#include <stdio.h>

static const char *const SCHEDULE_WORDS[] = {"one_cycle", "constant", NULL};

#define AT_GROUP(name) offsetof(OptimGroup, name)
static const ConfigField GROUP_FIELDS[] = {
    {"match", CONFIG_STRING, AT_GROUP(match), NULL, 0, 0, NULL, NULL,
     "names of parameters, as in the weight files: * stands for any text, ? for one character, [ab] for one of these"},
    {"lr", CONFIG_FLOAT, AT_GROUP(lr), "1", 0, 1e6, NULL, NULL,
     "their learning rate is the schedule's times this; 0: they stay as they are"},
    {"weight_decay", CONFIG_FLOAT, AT_GROUP(weight_decay), "1", 0, 1e6, NULL, NULL,
     "their weight decay is optim.weight_decay times this"},
};
static const ConfigSchema GROUP_SCHEMA = {"group", GROUP_FIELDS, sizeof GROUP_FIELDS / sizeof GROUP_FIELDS[0],
                                          sizeof(OptimGroup)};

#define AT(name) offsetof(OptimConfig, name)

static const ConfigField FIELDS[] = {
    {"total_steps", CONFIG_INT, AT(total_steps), "0", 0, 1e12, NULL, NULL,
     "optimizer steps that shape the schedule, frozen in the checkpoint; 0: train.steps"},
    {"schedule", CONFIG_ENUM, AT(schedule), "one_cycle", 0, 0, SCHEDULE_WORDS, NULL,
     "learning rate over the run: OneCycleLR as in PyTorch, or max_lr throughout"},
    {"max_lr", CONFIG_FLOAT, AT(max_lr), "1e-4", 0, 1e3, NULL, NULL, "highest learning rate"},
    {"pct_start", CONFIG_FLOAT, AT(pct_start), "0.01", 0, 1, NULL, NULL,
     "share of the schedule in which the learning rate rises"},
    {"div_factor", CONFIG_FLOAT, AT(div_factor), "25", 1e-6, 1e12, NULL, NULL,
     "the first learning rate is max_lr / div_factor"},
    {"final_div_factor", CONFIG_FLOAT, AT(final_div_factor), "1e4", 1e-6, 1e12, NULL, NULL,
     "the last learning rate is max_lr / div_factor / final_div_factor"},
    {"cycle_momentum", CONFIG_BOOL, AT(cycle_momentum), "true", 0, 0, NULL, NULL,
     "cycle AdamW's beta1 against the learning rate"},
    {"base_momentum", CONFIG_FLOAT, AT(base_momentum), "0.85", 0, 0.9999999, NULL, NULL,
     "beta1 where the learning rate is highest"},
    {"max_momentum", CONFIG_FLOAT, AT(max_momentum), "0.95", 0, 0.9999999, NULL, NULL,
     "beta1 where the learning rate is lowest"},
    {"beta1", CONFIG_FLOAT, AT(beta1), "0.9", 0, 0.9999999, NULL, NULL,
     "AdamW's decay of the first moment where momentum does not cycle"},
    {"beta2", CONFIG_FLOAT, AT(beta2), "0.999", 0, 0.9999999, NULL, NULL, "AdamW's decay of the second moment"},
    {"eps", CONFIG_FLOAT, AT(eps), "1e-8", 1e-30, 1, NULL, NULL, "added to the root of the second moment"},
    {"weight_decay", CONFIG_FLOAT, AT(weight_decay), "0.01", 0, 1e3, NULL, NULL,
     "decoupled: weights shrink by lr * weight_decay a step"},
    {"clip_norm", CONFIG_FLOAT, AT(clip_norm), "1.0", 0, 1e30, NULL, NULL, "largest global gradient norm; 0: off"},
    {"ema_decay", CONFIG_FLOAT, AT(ema_decay), "0.9999", 0, 0.99999999, NULL, NULL,
     "moving average of the weights; 0: none is kept"},
    {"ema_warmup", CONFIG_BOOL, AT(ema_warmup), "true", 0, 0, NULL, NULL,
     "decay of update n is at most (1 + n) / (10 + n)"},
    {"groups", CONFIG_LIST, AT(groups), NULL, 0, 0, NULL, &GROUP_SCHEMA,
     "parameters with a learning rate of their own, or none; of several patterns that match, the first counts"},
};

const ConfigSchema OPTIM_CONFIG_SCHEMA = {
    .name = "optim",
    .fields = FIELDS,
    .field_count = sizeof(FIELDS) / sizeof(FIELDS[0]),
    .struct_size = sizeof(OptimConfig),
};

Status optim_config_check(const OptimConfig *optim, const Config *config, const char *section)
{
    char key[128];
    if (optim->cycle_momentum && optim->base_momentum > optim->max_momentum) {
        snprintf(key, sizeof(key), "%s.base_momentum", section);
        return config_error(config, key, "%g is above max_momentum %g; beta1 goes from max_momentum down to base",
                            optim->base_momentum, optim->max_momentum);
    }
    if (optim->max_lr * optim->weight_decay > 1) {
        snprintf(key, sizeof(key), "%s.weight_decay", section);
        return config_error(config, key, "max_lr * weight_decay is %g; above 1 the decay turns weights' signs",
                            optim->max_lr * optim->weight_decay);
    }
    const OptimGroup *groups = optim->groups.items;
    for (size_t g = 0; g < optim->groups.count; g++) {
        const double decay = optim->max_lr * groups[g].lr * optim->weight_decay * groups[g].weight_decay;
        snprintf(key, sizeof(key), "%s.groups[%zu].weight_decay", section, g);
        if (decay > 1)
            return config_error(config, key,
                                "max_lr * lr * weight_decay of this group is %g; above 1 the decay turns "
                                "weights' signs",
                                decay);
    }
    return STATUS_OK;
}
