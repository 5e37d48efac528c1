#include "optim/param_groups.h"

#include <fnmatch.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "engine/param_order.h"

enum { NEAREST = 3, NEAREST_TEXT = 400, PATTERN_MOST = 256 };

static const OptimGroup *group_at(const OptimConfig *optim, size_t index)
{
    return (const OptimGroup *)optim->groups.items + index;
}

int32_t param_group_of(const OptimConfig *optim, const char *name)
{
    for (size_t g = 0; g < optim->groups.count; g++)
        if (fnmatch(group_at(optim, g)->match, name, 0) == 0) return (int32_t)g + 1;
    return 0;
}

int32_t param_group_factors(const OptimConfig *optim, AdamwGroup *out)
{
    int32_t count = 0;
    out[count++] = (AdamwGroup){1, 1};
    for (size_t g = 0; g < optim->groups.count && count < UPDATE_GROUPS_MAX; g++)
        out[count++] = (AdamwGroup){group_at(optim, g)->lr, group_at(optim, g)->weight_decay};
    return count;
}

/* ---- patterns that match nothing ---- */

/* Edits that make `name` match `pattern`: characters put in, left out or changed, where a * costs nothing. Counted row
 * by row as Levenshtein's distance is. (R. Wagner, M. Fischer, "The String-to-String Correction Problem", 1974) */
static int edits(const char *pattern, const char *name)
{
    int row[PATTERN_MOST + 1];
    const size_t width = strlen(name) < PATTERN_MOST ? strlen(name) : PATTERN_MOST;
    for (size_t i = 0; i <= width; i++) row[i] = (int)i;
    for (const char *p = pattern; *p; p++) {
        int diagonal = row[0];
        if (*p != '*') row[0]++;
        for (size_t i = 1; i <= width; i++) {
            const int above = row[i], left = row[i - 1];
            int best = diagonal + (*p != '?' && *p != name[i - 1]);
            if (*p == '*') best = left < above ? left : above;
            if (*p != '*' && above + 1 < best) best = above + 1;
            if (*p != '*' && left + 1 < best) best = left + 1;
            diagonal = above;
            row[i] = best;
        }
    }
    return row[width];
}

/* "a, b, c": the trainable parameters nearest to the pattern. */
static void nearest_names(const char *pattern, const ParamTable *table, char out[NEAREST_TEXT])
{
    int best[NEAREST] = {0};
    const char *names[NEAREST] = {NULL};
    size_t used = 0;
    out[0] = '\0';
    for (int32_t i = 0; i < param_table_size(table); i++) {
        const Param *param = param_table_get(table, i);
        if (!param->trainable) continue;
        const int distance = edits(pattern, param->name);
        int at = NEAREST;
        while (at > 0 && (!names[at - 1] || best[at - 1] > distance)) at--;
        if (at == NEAREST) continue;
        for (int k = NEAREST - 1; k > at; k--) {
            best[k] = best[k - 1];
            names[k] = names[k - 1];
        }
        best[at] = distance;
        names[at] = param->name;
    }
    for (int k = 0; k < NEAREST && names[k]; k++) {
        const int wrote = snprintf(out + used, NEAREST_TEXT - used, "%s%s", k ? ", " : "", names[k]);
        if (wrote < 0 || (size_t)wrote >= NEAREST_TEXT - used) break;
        used += (size_t)wrote;
    }
}

/* A pattern that is the first for no parameter: because it matches none, or because all are taken. */
static Status refuse_pattern(const OptimConfig *optim, size_t group, const ParamTable *table, const Config *config,
                             const char *section)
{
    char key[128], nearest[NEAREST_TEXT];
    const char *match = group_at(optim, group)->match;
    snprintf(key, sizeof key, "%s.groups[%zu].match", section, group);
    for (int32_t i = 0; i < param_table_size(table); i++) {
        const Param *param = param_table_get(table, i);
        if (!param->trainable || fnmatch(match, param->name, 0) != 0) continue;
        return config_error(config, key,
                            "\"%s\" is the first to match no parameter: what it matches, such as %s, is of "
                            "%s.groups[%d] already; of several patterns the first counts, so put this one before",
                            match, param->name, section, param_group_of(optim, param->name) - 1);
    }
    nearest_names(match, table, nearest);
    return config_error(config, key, "\"%s\" matches no trained parameter; the nearest names are %s%s", match, nearest,
                        strpbrk(match, "*?[") ? "" : " (a pattern matches the whole name: * stands for any text)");
}

Status param_groups_check(const OptimConfig *optim, const ParamTable *table, const Config *config, const char *section)
{
    Status status = STATUS_OK;
    bool used[UPDATE_GROUPS_MAX] = {false}, learns = false;
    AdamwGroup factors[UPDATE_GROUPS_MAX];
    char key[128];
    if (optim->groups.count == 0) return STATUS_OK;
    snprintf(key, sizeof key, "%s.groups", section);
    if (optim->groups.count >= UPDATE_GROUPS_MAX)
        FAIL_WITH(config_error(config, key, "%zu groups; at most %d are possible", optim->groups.count,
                               UPDATE_GROUPS_MAX - 1));
    for (size_t g = 0; g < optim->groups.count; g++) {
        const size_t length = strlen(group_at(optim, g)->match);
        snprintf(key, sizeof key, "%s.groups[%zu].match", section, g);
        if (length > PATTERN_MOST)
            FAIL_WITH(config_error(config, key, "a pattern of %zu bytes; at most %d", length, PATTERN_MOST));
    }
    param_group_factors(optim, factors);
    for (int32_t i = 0; i < param_table_size(table); i++) {
        const Param *param = param_table_get(table, i);
        if (!param->trainable) continue;
        const int32_t group = param_group_of(optim, param->name);
        used[group] = true;
        learns = learns || factors[group].lr > 0;
    }
    for (size_t g = 0; g < optim->groups.count; g++)
        if (!used[g + 1]) FAIL_WITH(refuse_pattern(optim, g, table, config, section));
    snprintf(key, sizeof key, "%s.groups", section);
    if (!learns)
        FAIL_WITH(config_error(config, key,
                               "every parameter is of a group with lr 0, so nothing would be trained; "
                               "leave some out, or give them a larger lr"));
fail:
    return status;
}

/* ---- where the groups lie ---- */

Status param_groups_segments(const OptimConfig *optim, const ParamTable *table, UpdateSegment **out, int32_t *count)
{
    Status status = STATUS_OK;
    ParamOrder order = {0};
    UpdateSegment *segments = NULL;
    *out = NULL;
    *count = 0;
    if (optim->groups.count == 0) return STATUS_OK;
    TRY(param_order_make(table, &order));
    segments = mem_alloc_array((size_t)order.count + 1, sizeof *segments);
    if (!segments) FAIL(ERR_MEMORY, "no memory for the groups of %d parameters", order.count);
    for (int32_t i = 0; i < order.count; i++) {
        const int32_t group = param_group_of(optim, order.params[i]->name);
        const int64_t end = i + 1 < order.count ? order.params[i + 1]->offset : param_table_trainable_elements(table);
        if (*count == 0 || segments[*count - 1].group != group) segments[(*count)++].group = group;
        segments[*count - 1].end = end;
    }
    *out = segments;
    segments = NULL;
fail:
    param_order_free(&order);
    free(segments);
    return status;
}
