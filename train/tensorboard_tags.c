/* Under which tags the numbers of metrics.jsonl are shown: TensorBoard groups them by what is before the first slash.
 */
#include <stdio.h>
#include <string.h>

#include "train/tensorboard.h"

typedef struct Tag {
    const char *name, *tag; /* tag NULL: not shown */
} Tag;

static const Tag tags[] = {
    {"step", NULL}, /* is the axis */
    {"allocations", NULL},
    {"skipped", NULL}, /* skipped_steps counts them */
    {"images_per_second", "speed/images_per_second"},
    {"step_seconds", "speed/step_seconds"},
    {"comm_wait_seconds", "speed/comm_wait_seconds"},
    {"data_wait_seconds", "data/wait_seconds"},
    {"rejected", "data/rejected"},
    {"peak_bytes", "memory/peak_bytes"},
};

bool tensorboard_metrics_tag(const char *name, char tag[TENSORBOARD_TAG_MAX])
{
    for (size_t i = 0; i < sizeof tags / sizeof tags[0]; i++) {
        if (strcmp(name, tags[i].name) != 0) continue;
        if (tags[i].tag) snprintf(tag, TENSORBOARD_TAG_MAX, "%s", tags[i].tag);
        return tags[i].tag != NULL;
    }
    /* What is of the data is so by its name already; whatever else there will be is of training. */
    snprintf(tag, TENSORBOARD_TAG_MAX, "%s%s", strncmp(name, "data.", 5) == 0 ? "" : "train/", name);
    for (char *c = tag; *c; c++)
        if (*c == '.') *c = '/';
    return true;
}
