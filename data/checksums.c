#include "data/checksums.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/arena.h"
#include "base/file.h"
#include "data/index_name.h"

#define LINE 33 /* 32 digits and a line feed */
#define MAX_HEADER 80

Status checksums_path(const char *shard, const char *folder, char path[PATH_MAX])
{
    return index_name(shard, folder, ".sums", path);
}

static bool parse_number(const char **text, const char *end, int64_t *out)
{
    int64_t value = 0;
    int digits = 0;
    const char *p = *text;
    while (p < end && *p == ' ') p++;
    for (; p < end && *p >= '0' && *p <= '9' && digits < 18; p++, digits++) value = value * 10 + (*p - '0');
    *text = p;
    *out = value;
    return digits > 0;
}

static bool parse_half(const char *text, uint64_t *out)
{
    uint64_t value = 0;
    for (int i = 0; i < 16; i++) {
        char c = text[i];
        int digit = c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
        if (digit < 0) return false;
        value = value << 4 | (uint64_t)digit;
    }
    *out = value;
    return true;
}

/* The first line, of which *used bytes are read. */
static Status parse_header(const char *text, size_t size, Checksums *out, size_t *used)
{
    Status status = STATUS_OK;
    static const char MAGIC[] = "vasily-sums 1 ";
    const char *p = text, *end = text + size;
    Checksums sums = {0};
    if (size < sizeof MAGIC || memcmp(p, MAGIC, sizeof MAGIC - 1) != 0) FAIL(ERR_FORMAT, "not a file of checksums");
    p += sizeof MAGIC - 1;
    if (!parse_number(&p, end, &sums.piece) || !parse_number(&p, end, &sums.bytes) || p == end || *p++ != '\n')
        FAIL(ERR_FORMAT, "line 1: not the sizes of a piece and of the shard");
    if (sums.piece < CHECKSUMS_MIN_PIECE || sums.piece > CHECKSUMS_MAX_PIECE)
        FAIL(ERR_FORMAT, "line 1: pieces of %" PRId64 " bytes, wanted are %d to %" PRId64, sums.piece,
             CHECKSUMS_MIN_PIECE, CHECKSUMS_MAX_PIECE);
    if (sums.bytes > CHECKSUMS_MAX_BYTES) FAIL(ERR_FORMAT, "line 1: of a shard of %" PRId64 " bytes", sums.bytes);
    sums.count = sums.bytes / sums.piece + (sums.bytes % sums.piece != 0);
    *out = sums;
    *used = (size_t)(p - text);
fail:
    return status;
}

Status checksums_parse(const char *text, size_t size, Checksums *out)
{
    Status status = STATUS_OK;
    size_t header;
    Checksums sums = {0};
    *out = (Checksums){0};
    TRY(parse_header(text, size, &sums, &header));
    const char *p = text + header, *end = text + size;
    if ((end - p) / LINE != sums.count || (end - p) % LINE != 0)
        FAIL(ERR_FORMAT, "has not one sum for each of %" PRId64 " pieces", sums.count);
    if (sums.count > 0) {
        sums.sums = mem_alloc_array((size_t)sums.count, sizeof sums.sums[0]);
        if (!sums.sums) FAIL(ERR_MEMORY, "out of memory for %" PRId64 " checksums", sums.count);
    }
    for (int64_t i = 0; i < sums.count; i++, p += LINE)
        if (p[32] != '\n' || !parse_half(p, &sums.sums[i].high) || !parse_half(p + 16, &sums.sums[i].low))
            FAIL(ERR_FORMAT, "line %" PRId64 ": not 32 digits", i + 2);
    *out = sums;
    return STATUS_OK;
fail:
    checksums_free(&sums);
    return status;
}

/* How long the file must be by its first line. */
static Status told_size(const char *path, size_t *out)
{
    Status status = STATUS_OK;
    char head[MAX_HEADER];
    Checksums told;
    FILE *file = fopen(path, "rbe");
    if (!file) FAIL_WITH(file_system_error(errno, "open", path));
    size_t size = fread(head, 1, sizeof head, file), header;
    (void)fclose(file);
    status = parse_header(head, size, &told, &header);
    if (status != STATUS_OK) status_prefix("%s: ", path);
    if (status == STATUS_OK) *out = header + (size_t)told.count * LINE;
fail:
    return status;
}

Status checksums_read(const char *path, Checksums *out)
{
    Status status = STATUS_OK;
    char *text = NULL;
    size_t size = 0;
    *out = (Checksums){0};
    if (!file_exists(path)) return STATUS_END;
    TRY(told_size(path, &size));
    TRY(file_read(path, size, &text, &size));
    status = checksums_parse(text, size, out);
    if (status != STATUS_OK) status_prefix("%s: ", path);
fail:
    free(text);
    return status;
}

Status checksums_write(const Checksums *sums, const char *path)
{
    Status status = STATUS_OK;
    StrBuf text = {0};
    char digits[33];
    TRY(strbuf_printf(&text, "vasily-sums 1 %" PRId64 " %" PRId64 "\n", sums->piece, sums->bytes));
    for (int64_t i = 0; i < sums->count; i++) {
        hash_format(sums->sums[i], digits);
        TRY(strbuf_printf(&text, "%s\n", digits));
    }
    TRY(file_write_atomic(path, text.data, text.size));
fail:
    strbuf_free(&text);
    return status;
}

void checksums_free(Checksums *sums)
{
    free(sums->sums);
    *sums = (Checksums){0};
}

bool checksums_match(const Checksums *sums, int64_t i, const void *data, int64_t size)
{
    if (i < 0 || i >= sums->count) return false;
    int64_t rest = sums->bytes - i * sums->piece;
    if (size != (rest < sums->piece ? rest : sums->piece)) return false;
    Hash128 hash = hash_memory(data, (size_t)size);
    return hash.low == sums->sums[i].low && hash.high == sums->sums[i].high;
}
