#include "train/config_difference.h"

#include <stdio.h>
#include <string.h>

#include "base/log.h"

enum { DEPTH_MAX = 20 };

void config_walk_begin(ConfigWalk *walk, const char *yaml)
{
    memset(walk, 0, sizeof *walk);
    walk->at = yaml;
}

/* Sections are lines without a value; their lines follow, indented by two more. "- " opens an item of a list. */
bool config_walk_next(ConfigWalk *walk, ConfigLine *line)
{
    while (*walk->at) {
        const char *start = walk->at, *end = strchrnul(start, '\n');
        walk->at = *end ? end + 1 : end;
        size_t indent = strspn(start, " ");
        size_t depth = indent / 2;
        const char *key = start + indent;
        if (depth + 2 >= DEPTH_MAX) continue; /* an item of a list lies one deeper */
        if (strncmp(key, "- ", 2) == 0) {
            char *path = walk->path;
            size_t used = walk->length[depth];
            int wrote = snprintf(path + used, sizeof walk->path - used, "[%ld]", walk->item[depth]++);
            if (wrote < 0 || used + (size_t)wrote >= sizeof walk->path) continue;
            depth++;
            walk->length[depth] = used + (size_t)wrote;
            key += 2;
        }
        const char *colon = memchr(key, ':', (size_t)(end - key));
        if (!colon) continue;
        size_t used = walk->length[depth];
        int wrote =
            snprintf(walk->path + used, sizeof walk->path - used, "%s%.*s", used ? "." : "", (int)(colon - key), key);
        if (wrote < 0 || used + (size_t)wrote >= sizeof walk->path) continue;
        walk->length[depth + 1] = used + (size_t)wrote;
        walk->item[depth + 1] = 0;
        if (colon + 1 >= end) continue;
        snprintf(line->key, sizeof line->key, "%s", walk->path);
        line->value = colon + 2;
        line->value_size = (size_t)(end - colon - 2);
        return true;
    }
    return false;
}

bool config_find(const char *yaml, const char *key, ConfigLine *out)
{
    ConfigWalk walk;
    config_walk_begin(&walk, yaml);
    while (config_walk_next(&walk, out))
        if (strcmp(out->key, key) == 0) return true;
    return false;
}

void config_log_differences(const char *before, const char *after)
{
    ConfigWalk walk;
    ConfigLine now, then;
    config_walk_begin(&walk, after);
    while (config_walk_next(&walk, &now)) {
        if (!config_find(before, now.key, &then))
            log_info("config: %s: %.*s, new since the checkpoint", now.key, (int)now.value_size, now.value);
        else if (then.value_size != now.value_size || memcmp(then.value, now.value, now.value_size) != 0)
            log_info("config: %s: %.*s -> %.*s", now.key, (int)then.value_size, then.value, (int)now.value_size,
                     now.value);
    }
}
