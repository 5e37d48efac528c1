#include "data/shard_unpack.h"

#include <unistd.h>

#include "base/log.h"
#include "data/spool.h"

Status shard_unpack(Patience *patience, const ArchiveSource *source, int *out, int64_t *bytes, bool *broken)
{
    Status status = STATUS_OK, next = STATUS_OK;
    Archive *archive = NULL;
    const void *block;
    size_t size;
    int64_t done = 0;
    int fd = -1;
    *broken = false;
    TRY(spool_create(patience->config, &fd));
    next = archive_open_stream(source, &archive);
    while (next == STATUS_OK && (next = archive_next_block(archive, &block, &size)) == STATUS_OK) {
        if (patience_stopped(patience)) FAIL(ERR_INTERRUPTED, "%s: stopped", source->name);
        if ((int64_t)size > SPOOL_MAX_BYTES - done)
            FAIL(ERR_LIMIT, "%s: more than 64 GiB when unpacked; make smaller shards", source->name);
        status = spool_write(patience->config, fd, block, (int64_t)size, done);
        if (status != STATUS_OK) {
            status_prefix("%s: ", source->name);
            goto fail;
        }
        done += (int64_t)size;
    }
    if (next == ERR_FORMAT) {
        log_debug("%s", status_message());
        *broken = true;
    } else if (next != STATUS_END)
        FAIL_WITH(next);
    *out = fd;
    *bytes = done;
    fd = -1;
fail:
    archive_close(archive);
    if (fd >= 0) close(fd);
    return status;
}
