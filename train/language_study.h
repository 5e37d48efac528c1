/* `vasily sample --grid`: one caption in many languages from the same noises, and the mean picture of each language. */
#ifndef TRAIN_LANGUAGE_STUDY_H
#define TRAIN_LANGUAGE_STUDY_H

#include "train/language_grid.h"
#include "train/sample_arguments.h"
#include "train/sample_progress.h"
#include "train/sampling.h"

typedef struct LanguageStudy {
    const LanguageGrid *grid;
    Sampling *sampling;
    SampleNotes *notes; /* of any picture of this command; keys are added for each */
    SampleProgress *progress;
    Arena *arena;
    int64_t width, height;
    int64_t first; /* which of a seed's noises */
    bool labels;
} LanguageStudy;

/* X.png: the sheets of all subjects below each other. Else a folder: for each subject N-TITLE.png, its sheet, and
 * N-TITLE/ with LANGUAGE-SEED.png and LANGUAGE-mean.png. Each picture is the one that its caption, --seed and --first
 * give alone. */
Status language_study_draw(const LanguageStudy *study, const char *out, bool to_folder);

#endif
