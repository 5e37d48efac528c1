#include "data/http.h"

#include <curl/curl.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/arena.h"
#include "base/file.h"

#define SLOWEST 1024.0 /* bytes a second, below which a transfer counts as stalled */
#define MAX_REDIRECTS 5L
#define MAX_IDLE 64
#define MAX_DISCARDED ((int64_t)64 << 10) /* of the text that comes with an error */

struct Http {
    Patience *patience;
    pthread_mutex_t lock;
    CURL *idle[MAX_IDLE];
    int idle_count;
};

/* One transfer. */
typedef struct Transfer {
    Http *http;
    CURL *curl;
    const HttpRequest *request;
    HttpReply *reply;
    /* of the headers seen last: a redirect has its own before those that count */
    char etag[HTTP_MAX_VALIDATOR + 1], modified[HTTP_MAX_VALIDATOR + 1];
    int64_t range_first, range_total; /* -1: not told */
    bool has_range;
    bool taking;       /* the body is what was asked for */
    int64_t discarded; /* bytes of a body that is not */
    double mark_time;
    int64_t mark_bytes, seen_bytes;
    bool stalled;
    Status failed; /* found by a callback, with its message recorded */
} Transfer;

static pthread_once_t curl_once = PTHREAD_ONCE_INIT;
static CURLcode curl_started;

static void start_curl(void)
{
    curl_started = curl_global_init(CURL_GLOBAL_DEFAULT);
}

Status http_create(Patience *patience, Http **out)
{
    Status status = STATUS_OK;
    Http *http = mem_alloc_array(1, sizeof *http);
    *out = NULL;
    if (!http) FAIL(ERR_MEMORY, "out of memory for connections");
    pthread_once(&curl_once, start_curl);
    if (curl_started != CURLE_OK) FAIL(ERR_UNSUPPORTED, "libcurl does not start: %s", curl_easy_strerror(curl_started));
    if (pthread_mutex_init(&http->lock, NULL) != 0) FAIL(ERR_MEMORY, "cannot create a lock");
    http->patience = patience;
    *out = http;
    return STATUS_OK;
fail:
    free(http);
    return status;
}

void http_free(Http *http)
{
    if (!http) return;
    for (int i = 0; i < http->idle_count; i++) curl_easy_cleanup(http->idle[i]);
    pthread_mutex_destroy(&http->lock);
    free(http);
}

/* ---- headers ---- */

/* The value of the header line, trimmed, when it is `name`. */
static bool header_value(const char *line, size_t size, const char *name, const char **value, size_t *length)
{
    size_t n = strlen(name);
    if (size <= n || strncasecmp(line, name, n) != 0 || line[n] != ':') return false;
    const char *from = line + n + 1, *to = line + size;
    while (from < to && (*from == ' ' || *from == '\t')) from++;
    while (to > from && (to[-1] == '\r' || to[-1] == '\n' || to[-1] == ' ' || to[-1] == '\t')) to--;
    *value = from;
    *length = (size_t)(to - from);
    return true;
}

/* A validator that is too long is none. */
static void keep_validator(char out[HTTP_MAX_VALIDATOR + 1], const char *value, size_t length)
{
    if (length > HTTP_MAX_VALIDATOR) length = 0;
    memcpy(out, value, length);
    out[length] = 0;
}

static bool take_number(const char **p, const char *end, int64_t *out)
{
    int digits = 0;
    int64_t value = 0;
    for (; *p < end && **p >= '0' && **p <= '9' && digits < 18; ++*p, digits++) value = value * 10 + (**p - '0');
    *out = value;
    return digits > 0;
}

/* "bytes 0-511/12345", "bytes 0-511/" and a star, "bytes *" and "/12345" (RFC 9110, 14.4). */
static void parse_content_range(Transfer *t, const char *value, size_t length)
{
    const char *p = value, *end = value + length;
    int64_t first = -1, last = -1, total = -1;
    if (length < 7 || strncasecmp(p, "bytes ", 6) != 0) return;
    p += 6;
    if (*p == '*')
        p++;
    else if (!take_number(&p, end, &first) || p == end || *p++ != '-' || !take_number(&p, end, &last) || last < first)
        return;
    if (p == end || *p++ != '/') return;
    if (p < end && *p != '*' && !take_number(&p, end, &total)) return;
    t->has_range = true;
    t->range_first = first;
    t->range_total = total;
}

static Status refuse(Transfer *t, Status status, bool final, const char *what)
{
    t->reply->final = final;
    t->failed = status_fail(status, __FILE__, __LINE__, "%s: %s", t->request->shown, what);
    return t->failed;
}

/* The file is no longer the one that was begun with. */
static Status check_version(Transfer *t)
{
    const HttpRequest *request = t->request;
    char text[160];
    HttpReply *reply = t->reply;
    memcpy(reply->validator, t->etag[0] ? t->etag : t->modified, sizeof reply->validator);
    if (request->total >= 0 && reply->total >= 0 && reply->total != request->total) {
        snprintf(text, sizeof text, "has %" PRId64 " bytes on the server, but had %" PRId64 ": it has been changed",
                 reply->total, request->total);
        return refuse(t, ERR_MISMATCH, false, text);
    }
    if (request->validator && request->validator[0] && reply->validator[0] &&
        strcmp(request->validator, reply->validator) != 0)
        return refuse(t, ERR_MISMATCH, false, "has been changed on the server since it was begun with");
    return STATUS_OK;
}

/* All headers of a reply that is not a redirect are here. */
static Status headers_end(Transfer *t)
{
    const HttpRequest *request = t->request;
    HttpReply *reply = t->reply;
    long code = 0;
    curl_off_t length = -1;
    Status status = STATUS_OK;
    curl_easy_getinfo(t->curl, CURLINFO_RESPONSE_CODE, &code);
    reply->code = (int)code;
    reply->connected = true;
    if (code == 206 && request->count > 0) {
        if (!t->has_range || t->range_first != request->first)
            return refuse(t, ERR_IO, false, "the server answers with another range than it was asked for");
        reply->total = t->range_total;
        TRY(check_version(t));
        t->taking = true;
    } else if (code == 200) {
        curl_easy_getinfo(t->curl, CURLINFO_CONTENT_LENGTH_DOWNLOAD_T, &length);
        reply->total = length;
        TRY(check_version(t));
        if (request->count > 0)
            reply->whole = true; /* the connection is given up: its body is not wanted */
        else
            t->taking = true;
    } else if (code == 416 && t->has_range && t->range_first < 0)
        reply->total = t->range_total;
fail:
    return status;
}

static size_t on_header(char *line, size_t one, size_t size, void *context)
{
    Transfer *t = context;
    const char *value;
    size_t length;
    if (size >= 5 && strncasecmp(line, "HTTP/", 5) == 0) { /* another reply begins */
        t->etag[0] = t->modified[0] = 0;
        t->has_range = t->taking = false;
        t->range_first = t->range_total = -1;
    } else if (header_value(line, size, "etag", &value, &length))
        keep_validator(t->etag, value, length);
    else if (header_value(line, size, "last-modified", &value, &length))
        keep_validator(t->modified, value, length);
    else if (header_value(line, size, "content-range", &value, &length))
        parse_content_range(t, value, length);
    else if (size <= 2 && (line[0] == '\r' || line[0] == '\n') && headers_end(t) != STATUS_OK)
        return 0;
    return t->reply->whole ? 0 : size;
}

/* ---- bodies ---- */

static size_t on_body(char *data, size_t one, size_t size, void *context)
{
    Transfer *t = context;
    HttpReply *reply = t->reply;
    if (!t->taking) {
        t->discarded += (int64_t)size;
        return t->discarded > MAX_DISCARDED ? 0 : size;
    }
    size_t take = size;
    int64_t count = t->request->count;
    if (count > 0 && (int64_t)take > count - reply->received) take = (size_t)(count - reply->received);
    if (take > 0) {
        t->failed = t->request->sink(t->request->context, data, take, t->request->first + reply->received);
        if (t->failed != STATUS_OK) {
            reply->final = true;
            return 0;
        }
        reply->received += (int64_t)take;
    }
    return take; /* less than `size`, when the server sends more than it was asked for, ends the transfer */
}

static int on_progress(void *context, curl_off_t total, curl_off_t now, curl_off_t up_total, curl_off_t up)
{
    Transfer *t = context;
    double time = clock_seconds(), allowed = t->http->patience->config->stall_seconds;
    if (patience_stopped(t->http->patience)) return 1;
    if ((double)(now - t->mark_bytes) >= SLOWEST * allowed || now < t->mark_bytes) {
        t->mark_time = time;
        t->mark_bytes = now;
    } else if (time - t->mark_time > allowed + (now > 0 ? 0 : t->http->patience->config->connect_seconds))
        t->stalled = true;
    return t->stalled;
}

/* ---- a transfer ---- */

static CURL *take_connection(Http *http)
{
    CURL *curl = NULL;
    pthread_mutex_lock(&http->lock);
    if (http->idle_count > 0) curl = http->idle[--http->idle_count];
    pthread_mutex_unlock(&http->lock);
    if (!curl) return curl_easy_init();
    curl_easy_reset(curl); /* keeps its connections */
    return curl;
}

/* After a transfer that failed the connection is closed, and nothing else of the handle is worth keeping. */
static void give_connection(Http *http, CURL *curl, bool sound)
{
    pthread_mutex_lock(&http->lock);
    bool keep = sound && http->idle_count < MAX_IDLE;
    if (keep) http->idle[http->idle_count++] = curl;
    pthread_mutex_unlock(&http->lock);
    if (!keep) curl_easy_cleanup(curl);
}

static bool prepare(Transfer *t, struct curl_slist **headers, char *error)
{
    const HttpRequest *request = t->request;
    const ReadConfig *config = t->http->patience->config;
    CURL *curl = t->curl;
    char range[64], if_range[HTTP_MAX_VALIDATOR + 16];
    int e = 0;
    e |= curl_easy_setopt(curl, CURLOPT_URL, request->url);
    e |= curl_easy_setopt(curl, CURLOPT_ERRORBUFFER, error);
    e |= curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
#if LIBCURL_VERSION_NUM >= 0x075500
    e |= curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "http,https");
    e |= curl_easy_setopt(curl, CURLOPT_REDIR_PROTOCOLS_STR, "http,https");
#else
    e |= curl_easy_setopt(curl, CURLOPT_PROTOCOLS, (long)(CURLPROTO_HTTP | CURLPROTO_HTTPS));
    e |= curl_easy_setopt(curl, CURLOPT_REDIR_PROTOCOLS, (long)(CURLPROTO_HTTP | CURLPROTO_HTTPS));
#endif
    e |= curl_easy_setopt(curl, CURLOPT_FOLLOWLOCATION, 1L);
    e |= curl_easy_setopt(curl, CURLOPT_MAXREDIRS, MAX_REDIRECTS);
    e |= curl_easy_setopt(curl, CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L); /* a proxy's, which say nothing of the file */
    e |= curl_easy_setopt(curl, CURLOPT_USERAGENT, "vasily");
    e |= curl_easy_setopt(curl, CURLOPT_TCP_KEEPALIVE, 1L);
    e |= curl_easy_setopt(curl, CURLOPT_BUFFERSIZE, 128L << 10);
    e |= curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT_MS, (long)(config->connect_seconds * 1000));
    e |= curl_easy_setopt(curl, CURLOPT_HEADERFUNCTION, on_header);
    e |= curl_easy_setopt(curl, CURLOPT_HEADERDATA, t);
    e |= curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, on_body);
    e |= curl_easy_setopt(curl, CURLOPT_WRITEDATA, t);
    e |= curl_easy_setopt(curl, CURLOPT_XFERINFOFUNCTION, on_progress);
    e |= curl_easy_setopt(curl, CURLOPT_XFERINFODATA, t);
    e |= curl_easy_setopt(curl, CURLOPT_NOPROGRESS, 0L);
    if (request->count > 0) {
        snprintf(range, sizeof range, "%" PRId64 "-%" PRId64, request->first, request->first + request->count - 1);
        e |= curl_easy_setopt(curl, CURLOPT_RANGE, range);
    }
    /* A server that packs what it sends would have to unpack ranges of it. */
    *headers = curl_slist_append(NULL, "Accept-Encoding: identity");
    if (!*headers) return false;
    /* A weak validator is not allowed there (RFC 9110, 13.1.5); the reply's own is compared in any case. */
    if (request->count > 0 && request->validator && request->validator[0] == '"') {
        snprintf(if_range, sizeof if_range, "If-Range: %s", request->validator);
        if (!curl_slist_append(*headers, if_range)) return false;
    }
    e |= curl_easy_setopt(curl, CURLOPT_HTTPHEADER, *headers);
    return e == 0;
}

/* What is wrong for good: it is not asked for again. */
static bool code_is_final(int code)
{
    return code == 400 || code == 401 || code == 402 || code == 405 || code == 407 || code == 414 || code == 451 ||
           code == 501 || code == 505;
}

static bool error_is_final(CURLcode code)
{
    switch (code) {
    case CURLE_UNSUPPORTED_PROTOCOL:
    case CURLE_URL_MALFORMAT:
    case CURLE_NOT_BUILT_IN:
    case CURLE_TOO_MANY_REDIRECTS:
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_SSL_CACERT_BADFILE:
        return true;
    default:
        return false;
    }
}

static Status judge(Transfer *t, CURLcode code, const char *error)
{
    const HttpRequest *request = t->request;
    HttpReply *reply = t->reply;
    const char *shown = request->shown;
    Status status = STATUS_OK;
    if (t->failed != STATUS_OK) return status_trace(t->failed, __FILE__, __LINE__);
    if (patience_stopped(t->http->patience)) FAIL(ERR_INTERRUPTED, "%s: stopped", shown);
    if (reply->whole) FAIL(ERR_IO, "%s: the server does not send parts of files", shown);
    if (t->taking && request->count > 0 && reply->received == request->count) return STATUS_OK;
    if (t->stalled)
        FAIL(ERR_IO, "%s: the server stalls: less than %.0f bytes a second during %g s", shown, SLOWEST,
             t->http->patience->config->stall_seconds);
    if (reply->connected && !t->taking && (reply->code < 300 || reply->code >= 400)) {
        reply->final = code_is_final(reply->code);
        FAIL(ERR_IO, "%s: the server answers with code %d%s", shown, reply->code,
             reply->code == 401 || reply->code == 403   ? ": it does not let us read this"
             : reply->code == 404 || reply->code == 410 ? ": there is no such file"
             : reply->code == 416                       ? ": the file is shorter than it was"
             : reply->code >= 500                       ? ": a trouble of its own"
                                                        : "");
    }
    if (code != CURLE_OK) {
        reply->final = error_is_final(code);
        FAIL(ERR_IO, "%s: %s", shown, error[0] ? error : curl_easy_strerror(code));
    }
    if (request->count > 0 || (reply->total >= 0 && reply->received != reply->total))
        FAIL(ERR_IO, "%s: the transfer ended after %" PRId64 " of %" PRId64 " bytes", shown, reply->received,
             request->count > 0 ? request->count : reply->total);
fail:
    return status;
}

Status http_get(Http *http, const HttpRequest *request, HttpReply *reply)
{
    Status status = STATUS_OK;
    struct curl_slist *headers = NULL;
    char error[CURL_ERROR_SIZE] = "";
    Transfer t = {.http = http, .request = request, .reply = reply, .range_first = -1, .range_total = -1};
    curl_off_t wait = 0;
    CURLcode code = CURLE_FAILED_INIT;
    *reply = (HttpReply){.total = -1};
    if (patience_stopped(http->patience)) FAIL(ERR_INTERRUPTED, "%s: stopped", request->shown);
    t.curl = take_connection(http);
    if (!t.curl || !prepare(&t, &headers, error)) FAIL(ERR_MEMORY, "%s: out of memory for a transfer", request->shown);
    t.mark_time = clock_seconds();
    code = curl_easy_perform(t.curl);
    if (curl_easy_getinfo(t.curl, CURLINFO_RETRY_AFTER, &wait) == CURLE_OK && wait > 0) reply->wait = (double)wait;
    status = judge(&t, code, error);
fail:
    if (t.curl) {
        (void)curl_easy_setopt(t.curl, CURLOPT_ERRORBUFFER, NULL);
        (void)curl_easy_setopt(t.curl, CURLOPT_HTTPHEADER, NULL);
        give_connection(http, t.curl, code == CURLE_OK);
    }
    curl_slist_free_all(headers);
    return status;
}

static void write_plain(const char *url, bool mark, char *out, size_t capacity)
{
    const char *host = strstr(url, "://");
    host = host ? host + 3 : url;
    size_t authority = strcspn(host, "/?#"), length = strcspn(host, "?#");
    const char *after = host;
    for (size_t i = 0; i < authority; i++)
        if (host[i] == '@') after = host + i + 1;
    length -= (size_t)(after - host);
    snprintf(out, capacity, "%.*s%.*s%s", (int)(host - url), url, (int)length, after,
             mark && after[length] == '?' ? "?..." : "");
}

void http_plain(const char *url, char *out, size_t capacity)
{
    write_plain(url, false, out, capacity);
}

void http_show(const char *url, char *out, size_t capacity)
{
    write_plain(url, true, out, capacity);
}
