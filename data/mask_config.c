#include "data/mask_config.h"

#include <stddef.h>
#include <stdio.h>

#define FIELD_COUNT(fields) (sizeof(fields) / sizeof((fields)[0]))
#define SHARE(kind) (offsetof(MaskConfig, share) + (kind) * sizeof(double))
#define AT(name) offsetof(MaskConfig, name)

const char *const MASK_WORDS[] = {"box", "polygon", "stroke", "frame", "whole", NULL};

static const ConfigField FIELDS[] = {
    {"box", CONFIG_FLOAT, SHARE(MASK_BOX), "2", 0, 1e6, NULL, NULL,
     "share of masks that begin with a box, relative to the sum of the five shares"},
    {"polygon", CONFIG_FLOAT, SHARE(MASK_POLYGON), "3", 0, 1e6, NULL, NULL, "with a polygon of rounded corners"},
    {"stroke", CONFIG_FLOAT, SHARE(MASK_STROKE), "2", 0, 1e6, NULL, NULL, "with a brush stroke"},
    {"frame", CONFIG_FLOAT, SHARE(MASK_FRAME), "1.5", 0, 1e6, NULL, NULL,
     "with a frame along one to four sides, for outpainting: the middle is kept"},
    {"whole", CONFIG_FLOAT, SHARE(MASK_WHOLE), "1.5", 0, 1e6, NULL, NULL,
     "that hide the whole picture: text-to-image goes on being trained"},
    {"more", CONFIG_FLOAT, AT(more), "0.4", 0, 1, NULL, NULL,
     "chance that another box, polygon or stroke is painted too, and after it another, up to four shapes in all"},
    {"box_min", CONFIG_FLOAT, AT(box.min), "0.1", 0.001, 1, NULL, NULL,
     "shortest side of a box, as a part of the picture's side"},
    {"box_max", CONFIG_FLOAT, AT(box.max), "0.6", 0.001, 1, NULL, NULL, "longest side of a box"},
    {"polygon_min", CONFIG_FLOAT, AT(polygon.min), "0.2", 0.001, 2, NULL, NULL,
     "smallest diameter of a polygon before its corners are rounded, as a part of the picture's side"},
    {"polygon_max", CONFIG_FLOAT, AT(polygon.max), "0.9", 0.001, 2, NULL, NULL, "largest diameter of a polygon"},
    {"stroke_min", CONFIG_FLOAT, AT(stroke.min), "0.05", 0.001, 1, NULL, NULL,
     "thinnest brush, as a part of the picture's side"},
    {"stroke_max", CONFIG_FLOAT, AT(stroke.max), "0.2", 0.001, 1, NULL, NULL, "thickest brush"},
    {"frame_min", CONFIG_FLOAT, AT(frame.min), "0.1", 0.001, 0.49, NULL, NULL,
     "narrowest side of a frame, as a part of the picture's side"},
    {"frame_max", CONFIG_FLOAT, AT(frame.max), "0.4", 0.001, 0.49, NULL, NULL, "widest side of a frame"},
};
const ConfigSchema MASK_CONFIG_SCHEMA = {"inpainting", FIELDS, FIELD_COUNT(FIELDS), sizeof(MaskConfig)};

static Status check_range(const Config *config, const char *prefix, const char *name, const MaskRange *range)
{
    Status status = STATUS_OK;
    char key[128];
    if (range->min <= range->max) return STATUS_OK;
    snprintf(key, sizeof key, "%s.%s_min", prefix, name);
    FAIL_WITH(config_error(config, key, "%g is above %s.%s_max, %g; sizes are drawn between the two", range->min,
                           prefix, name, range->max));
fail:
    return status;
}

Status mask_config_check(const MaskConfig *masks, const Config *config, const char *prefix)
{
    Status status = STATUS_OK;
    char key[128];
    double sum = 0;
    for (int k = 0; k < MASK_KINDS; k++) sum += masks->share[k];
    snprintf(key, sizeof key, "%s.%s", prefix, MASK_WORDS[0]);
    if (!(sum > 0))
        FAIL_WITH(config_error(config, key,
                               "box, polygon, stroke, frame and whole are all 0; give at least one kind of mask a "
                               "share"));
    TRY(check_range(config, prefix, "box", &masks->box));
    TRY(check_range(config, prefix, "polygon", &masks->polygon));
    TRY(check_range(config, prefix, "stroke", &masks->stroke));
    TRY(check_range(config, prefix, "frame", &masks->frame));
fail:
    return status;
}
