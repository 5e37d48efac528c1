/* The previews of a run, as they are put into a page: of many, some that are spread evenly, the first and the last
 * among them; each small. So a page stays below 24 x 200 kB of pictures, 6.4 MB as base64, however long the run is. */
#ifndef TRAIN_REPORT_PICTURES_H
#define TRAIN_REPORT_PICTURES_H

#include <stdbool.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/status.h"

enum {
    REPORT_PICTURES_MAX = 24,
    REPORT_PICTURE_BYTES = 200000, /* larger files are drawn smaller, as WebP */
    REPORT_PICTURE_SIDE = 1024     /* then at most so many pixels */
};

/* RUN/previews/step-0000500.png, or step-0000500-MARK.png. */
enum { PREVIEW_MARK_MAX = 64 };
typedef struct PreviewName {
    int64_t step;
    char mark[PREVIEW_MARK_MAX]; /* "": none */
} PreviewName;
bool preview_name_parse(const char *name, PreviewName *out);

typedef struct ReportPicture {
    PreviewName name;
    int64_t file_size, file_time; /* of the file that it was made from */
    const char *type;             /* "image/png", "image/webp" */
    StrBuf bytes;
} ReportPicture;

typedef struct ReportPictures {
    ReportPicture items[REPORT_PICTURES_MAX]; /* by step, then by mark */
    int32_t count;
    int64_t found;  /* previews in the folder */
    int64_t broken; /* of those chosen: not readable as pictures, and left out */
} ReportPictures;

/* Looks at the folder again; pictures that were made before are kept. A folder that is not there has none. */
Status report_pictures_update(ReportPictures *pictures, const char *folder);
void report_pictures_free(ReportPictures *pictures); /* zeroed is fine; leaves an empty one */

#endif
