/* rehash CHECKPOINT: writes its manifest anew for the files as they are, so that tests can put what they like into one.
 */
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/file.h"
#include "train/checkpoint_manifest.h"

int main(int argc, char **argv)
{
    Status status = STATUS_OK;
    FileFacts *files = NULL;
    size_t count = 0;
    int64_t format;
    if (argc != 2) return 2;
    TRY(manifest_read(argv[1], &format, &files, &count));
    for (size_t i = 0; i < count; i++) {
        char name[FILE_NAME_MAX];
        snprintf(name, sizeof name, "%s", files[i].name);
        TRY(file_facts_take(argv[1], name, &files[i]));
    }
    TRY(manifest_write(argv[1], (int)format, 0, files, count));
fail:
    if (status) fprintf(stderr, "%s\n", status_message());
    free(files);
    return status_exit_code(status);
}
