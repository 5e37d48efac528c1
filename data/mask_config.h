/* The config section `inpainting:`: the masks that an inpainting model is trained with. */
#ifndef DATA_MASK_CONFIG_H
#define DATA_MASK_CONFIG_H

#include "base/config.h"

/* What a mask begins with; the words of messages and labels are MASK_WORDS. */
typedef enum MaskKind { MASK_BOX, MASK_POLYGON, MASK_STROKE, MASK_FRAME, MASK_WHOLE, MASK_KINDS } MaskKind;
extern const char *const MASK_WORDS[];

typedef struct MaskRange {
    double min, max; /* as a part of the picture's side */
} MaskRange;

typedef struct MaskConfig {
    double share[MASK_KINDS]; /* relative to their sum */
    double more;              /* chance of another shape on top, and again, and again */
    MaskRange box, polygon, stroke, frame;
} MaskConfig;

extern const ConfigSchema MASK_CONFIG_SCHEMA;

/* That some kind has a share, and that no range begins behind its end. `prefix`: of the section, for messages. */
Status mask_config_check(const MaskConfig *masks, const Config *config, const char *prefix);

#endif
