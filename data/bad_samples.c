#include "data/bad_samples.h"

#include <inttypes.h>
#include <string.h>

#include "base/log.h"
#include "data/shard_file.h"

static const char *const names[SAMPLE_REASON_COUNT] = {
    [SAMPLE_ACCEPTED] = "accepted",
    [SAMPLE_READ_ERROR] = "read_error",
    [SAMPLE_DUPLICATE_MEMBER] = "duplicate_member",
    [SAMPLE_TOO_LARGE] = "too_large",
    [SAMPLE_NO_PICTURE] = "no_picture",
    [SAMPLE_NO_CAPTION] = "no_caption",
    [SAMPLE_BAD_UTF8] = "bad_utf8",
    [SAMPLE_BAD_JSON] = "bad_json",
    [SAMPLE_UNKNOWN_PICTURE] = "unknown_picture",
    [SAMPLE_BAD_PNG] = "bad_png",
    [SAMPLE_BAD_JPEG] = "bad_jpeg",
    [SAMPLE_BAD_WEBP] = "bad_webp",
    [SAMPLE_SMALL] = "small",
    [SAMPLE_WATERMARK] = "watermark",
    [SAMPLE_UNSAFE] = "unsafe",
    [SAMPLE_SIMILARITY] = "similarity",
    [SAMPLE_AESTHETIC] = "aesthetic",
    [SAMPLE_LANGUAGE] = "language",
    [SAMPLE_MISSING_FIELD] = "missing_field",
    [SAMPLE_NOT_DOWNLOADED] = "not_downloaded",
    [SAMPLE_WHERE] = "filtered",
    [SHARD_EMPTY] = "empty_shard",
    [SHARD_BROKEN] = "broken_shard",
};

const char *sample_reason_name(SampleReason reason)
{
    return names[reason];
}

bool sample_reason_is_broken(SampleReason reason)
{
    return reason >= SAMPLE_READ_ERROR && reason <= SAMPLE_BAD_WEBP;
}

bool sample_reason_is_filter(SampleReason reason)
{
    return reason >= SAMPLE_SMALL && reason <= SAMPLE_WHERE;
}

/* 1 to 5, then powers of ten. */
static bool is_worth_a_line(int64_t count)
{
    if (count <= 5) return true;
    while (count % 10 == 0) count /= 10;
    return count == 1;
}

/* Messages of whoever reads shards begin with their names, perhaps behind a word on tries. */
static bool names_it(const char *detail, const char *shown)
{
    const char *at = strstr(detail, shown);
    return at && (at == detail || at[-1] == ' ') && at[strlen(shown)] == ':';
}

void bad_samples_add(BadSamples *bad, SampleReason reason, const char *shard, const char *key, const char *detail)
{
    int64_t count = ++bad->counts[reason];
    if (reason == SAMPLE_ACCEPTED || sample_reason_is_filter(reason) || !is_worth_a_line(count)) return;
    char shown[SHARD_NAME_MAX];
    shard_show(shard, shown, sizeof shown);
    if ((reason == SHARD_EMPTY || reason == SHARD_BROKEN) && names_it(detail, shown))
        log_warn("%s (number %" PRId64 "): %s", names[reason], count, detail);
    else if (reason == SHARD_EMPTY || reason == SHARD_BROKEN)
        log_warn("%s (number %" PRId64 "): %s: %s", names[reason], count, shown, detail);
    else if (names_it(detail, shown))
        log_warn("passed over, %s (number %" PRId64 "): %s, %s", names[reason], count, key, detail);
    else
        log_warn("passed over, %s (number %" PRId64 "): %s in %s: %s", names[reason], count, key, shown, detail);
}

int64_t bad_samples_seen(const BadSamples *bad)
{
    int64_t sum = 0;
    for (int r = SAMPLE_ACCEPTED; r < SHARD_EMPTY; r++) sum += bad->counts[r];
    return sum;
}

int64_t bad_samples_broken(const BadSamples *bad)
{
    int64_t sum = 0;
    for (int r = 0; r < SAMPLE_REASON_COUNT; r++)
        if (sample_reason_is_broken((SampleReason)r)) sum += bad->counts[r];
    return sum;
}

Status bad_samples_check(const BadSamples *bad, double max_share)
{
    int64_t seen = bad_samples_seen(bad), broken = bad_samples_broken(bad);
    if (seen < 100 || (double)broken <= max_share * (double)seen) return STATUS_OK;
    StrBuf text = {0};
    (void)bad_samples_format(bad, &text);
    Status status = status_fail(ERR_FORMAT, __FILE__, __LINE__,
                                "%" PRId64 " of %" PRId64
                                " samples are broken, more than data.max_bad_share (%g): %s; repair the shards or "
                                "raise data.max_bad_share",
                                broken, seen, max_share, text.data ? text.data : "");
    strbuf_free(&text);
    return status;
}

Status bad_samples_format(const BadSamples *bad, StrBuf *out)
{
    Status status = STATUS_OK;
    bool any = false;
    for (int r = SAMPLE_ACCEPTED + 1; r < SAMPLE_REASON_COUNT; r++) {
        if (bad->counts[r] == 0) continue;
        TRY(strbuf_printf(out, "%s%s %" PRId64, any ? ", " : "", names[r], bad->counts[r]));
        any = true;
    }
    if (!any) TRY(strbuf_printf(out, "none"));
fail:
    return status;
}
