#include "emoji/shard_writer.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/file.h"

#define BLOCK 512

struct ShardWriter {
    char folder[4096];
    char path[4200], partial[4300]; /* the shard's name, and the one it has until it is complete */
    char key[32];
    FILE *file;
    int64_t per_shard, shards, sample; /* sample: samples begun in the current shard */
};

Status shard_writer_open(const char *folder, int64_t samples_per_shard, ShardWriter **out)
{
    Status status = STATUS_OK;
    ShardWriter *writer = mem_alloc_array(1, sizeof *writer);
    if (!writer) FAIL(ERR_MEMORY, "no memory for a shard writer");
    if (samples_per_shard < 1 || samples_per_shard > 9999) {
        FAIL(ERR_USAGE, "%lld samples per shard; from 1 to 9999", (long long)samples_per_shard);
    }
    if (strlen(folder) >= sizeof writer->folder) FAIL(ERR_LIMIT, "%s: the path is too long", folder);
    TRY(file_make_dirs(folder));
    strcpy(writer->folder, folder);
    writer->per_shard = samples_per_shard;
    *out = writer;
    return STATUS_OK;
fail:
    free(writer);
    return status;
}

static Status put(ShardWriter *writer, const void *data, size_t size)
{
    if (size && fwrite(data, 1, size, writer->file) != size) {
        return status_fail(ERR_IO, __FILE__, __LINE__, "%s: cannot write: %s", writer->partial, strerror(errno));
    }
    return STATUS_OK;
}

static Status finish_shard(ShardWriter *writer)
{
    static const char end[2 * BLOCK];
    Status status = STATUS_OK;
    if (!writer->file) return STATUS_OK;
    TRY(put(writer, end, sizeof end));
    FILE *file = writer->file;
    writer->file = NULL;
    if (fclose(file) != 0) FAIL(ERR_IO, "%s: cannot write: %s", writer->partial, strerror(errno));
    TRY(file_rename(writer->partial, writer->path));
    return STATUS_OK;
fail:
    return status;
}

Status shard_writer_sample(ShardWriter *writer, const char **key)
{
    Status status = STATUS_OK;
    if (!writer->file || writer->sample == writer->per_shard) {
        TRY(finish_shard(writer));
        if (writer->shards > 99999) FAIL(ERR_LIMIT, "%s: more than 100000 shards", writer->folder);
        snprintf(writer->path, sizeof writer->path, "%s/%05lld.tar", writer->folder, (long long)writer->shards);
        snprintf(writer->partial, sizeof writer->partial, "%s.partial", writer->path);
        writer->file = fopen(writer->partial, "wb");
        if (!writer->file) FAIL(ERR_IO, "%s: cannot create: %s", writer->partial, strerror(errno));
        writer->shards++;
        writer->sample = 0;
    }
    snprintf(writer->key, sizeof writer->key, "%05lld%04lld", (long long)(writer->shards - 1),
             (long long)writer->sample);
    writer->sample++;
    *key = writer->key;
fail:
    return status;
}

Status shard_writer_member(ShardWriter *writer, const char *suffix, const void *data, size_t size)
{
    static const char zeros[BLOCK];
    Status status = STATUS_OK;
    /* POSIX ustar: name 0, mode 100, uid 108, gid 116, size 124, mtime 136, checksum 148, type 156, magic 257. Owner
     * and time are zero, so the same samples give the same bytes. */
    char header[BLOCK] = {0};
    if (size > 077777777777) FAIL(ERR_LIMIT, "%s.%s: too large for a tar member", writer->key, suffix);
    if (snprintf(header, 100, "%s.%s", writer->key, suffix) >= 100) FAIL(ERR_LIMIT, "%s: long suffix", suffix);
    snprintf(header + 100, 8, "%07o", 0644);
    snprintf(header + 108, 8, "%07o", 0);
    snprintf(header + 116, 8, "%07o", 0);
    snprintf(header + 124, 12, "%011zo", size);
    snprintf(header + 136, 12, "%011o", 0);
    memset(header + 148, ' ', 8);
    header[156] = '0';
    memcpy(header + 257, "ustar\00000", 8);
    unsigned sum = 0;
    for (size_t i = 0; i < BLOCK; i++) sum += (unsigned char)header[i];
    snprintf(header + 148, 7, "%06o", sum);
    header[155] = ' ';
    TRY(put(writer, header, BLOCK));
    TRY(put(writer, data, size));
    if (size % BLOCK) TRY(put(writer, zeros, BLOCK - size % BLOCK));
fail:
    return status;
}

int64_t shard_writer_shards(const ShardWriter *writer)
{
    return writer->shards;
}

Status shard_writer_close(ShardWriter *writer)
{
    if (!writer) return STATUS_OK;
    Status status = finish_shard(writer);
    shard_writer_abandon(writer);
    return status;
}

void shard_writer_abandon(ShardWriter *writer)
{
    if (!writer) return;
    if (writer->file) {
        fclose(writer->file);
        unlink(writer->partial);
    }
    free(writer);
}
