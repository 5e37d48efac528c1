/* What is surely a mistake in a pattern of shards: found before anything is read, where it can still be named. */
#include <stdbool.h>
#include <string.h>

#include "base/file.h"
#include "data/shard_file.h"
#include "data/shard_list.h"

/* "scheme://" (RFC 3986, 3.1) at the start: its length without the colon, else 0. */
static size_t scheme_length(const char *path)
{
    static const char LETTERS[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
    if (!strchr(LETTERS, path[0]) || !path[0]) return 0;
    size_t size = strspn(path, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789+.-");
    return strncmp(path + size, "://", 3) == 0 ? size : 0;
}

static Status check_scheme(const char *pattern)
{
    Status status = STATUS_OK;
    size_t size = scheme_length(pattern);
    if (shard_kind(pattern) == SHARD_LOCAL && size > 0)
        FAIL(ERR_CONFIG,
             "%.200s: %.*s:// is not known; shards are paths, http://..., https://... (in small letters), or "
             "pipe:COMMAND for what another program fetches",
             pattern, (int)(size < 40 ? size : 40), pattern);
fail:
    return status;
}

/* Behind the host, before the query. */
static Status check_url(const char *pattern)
{
    Status status = STATUS_OK;
    if (shard_kind(pattern) != SHARD_HTTP) return STATUS_OK;
    char shown[SHARD_NAME_MAX];
    const char *path = strchr(strstr(pattern, "://") + 3, '/');
    size_t size = path ? strcspn(path, "?#") : 0;
    for (size_t i = 0; i < size; i++)
        if (strchr("*[", path[i])) {
            shard_show(pattern, shown, sizeof shown);
            FAIL(ERR_CONFIG,
                 "%.200s: a web server cannot be asked which files match; write the numbers, {00000..00099}, or give a "
                 "list:FILE (a %c that is meant is %s in a URL)",
                 shown, path[i], path[i] == '*' ? "%2A" : "%5B");
        }
fail:
    return status;
}

/* What stands between two braces: a group of items, or a range, or neither. */
static Status check_group(const char *pattern, const char *text, const char *end)
{
    Status status = STATUS_OK;
    int depth = 0;
    bool comma = false, dots = false;
    char shown[SHARD_NAME_MAX];
    for (const char *p = text; p < end; p++) {
        if (*p == '{') depth++;
        if (*p == '}') depth--;
        if (depth > 0) continue;
        if (*p == ',') comma = true;
        if (p[0] == '.' && p + 1 < end && p[1] == '.') dots = true;
    }
    if (comma || !dots || shard_list_is_range(text, end)) return STATUS_OK;
    shard_show(pattern, shown, sizeof shown);
    FAIL(ERR_CONFIG, "%.200s: {%.*s} is no range of numbers such as {00000..00099}", shown,
         (int)(end - text < 100 ? end - text : 100), text);
fail:
    return status;
}

static Status check_braces(const char *pattern)
{
    Status status = STATUS_OK;
    const char *open[SHARD_LIST_MAX_GROUPS];
    int depth = 0;
    char shown[SHARD_NAME_MAX];
    for (const char *p = pattern; *p; p++) {
        if (*p == '{') {
            if (depth == SHARD_LIST_MAX_GROUPS) return STATUS_OK; /* which the expansion refuses */
            open[depth++] = p;
        } else if (*p == '}' && depth > 0) {
            depth--;
            TRY(check_group(pattern, open[depth] + 1, p));
        }
    }
    if (depth > 0) {
        shard_show(pattern, shown, sizeof shown);
        FAIL(ERR_CONFIG, "%.200s: a { is not closed", shown);
    }
fail:
    return status;
}

Status shard_list_check(const char *pattern, const char *file)
{
    Status status = STATUS_OK;
    if (strncmp(pattern, "list:", 5) == 0 || shard_kind(pattern) == SHARD_PIPE) return STATUS_OK;
    status = check_scheme(pattern);
    if (status == STATUS_OK) status = check_url(pattern);
    if (status == STATUS_OK) status = check_braces(pattern);
    if (status != STATUS_OK && shard_kind(pattern) == SHARD_LOCAL && file_exists(file)) return STATUS_OK;
    return status;
}
