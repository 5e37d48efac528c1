/* Bytes of a file behind http or https, by libcurl: one transfer a call, over connections that are kept and used again.
 * Nothing is tried twice here (data/http_shard.h does that).
 *
 * Redirects are followed to http and https only, at most 5; certificates are checked; proxies are those of the
 * environment; .netrc and cookies are not used; no content-encoding is asked for. A transfer ends when a connection
 * takes longer than connect_seconds, or brings less than 1 KiB/s during stall_seconds. */
#ifndef DATA_HTTP_H
#define DATA_HTTP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/status.h"
#include "data/patience.h"

#define HTTP_MAX_VALIDATOR 200

typedef struct Http Http;

/* Takes bytes as they come. A failure ends the transfer with it. */
typedef Status (*HttpSink)(void *context, const void *data, size_t size, int64_t offset);

typedef struct HttpRequest {
    const char *url, *shown; /* shown: what messages call it (http_show) */
    int64_t first, count; /* bytes [first, first + count) of the file; count 0: all of it, without asking for a range */
    const char *validator; /* what an earlier reply called this version of the file: ERR_MISMATCH when it is another;
                              empty: not known */
    int64_t total;         /* its size as known so far: likewise; negative: not known */
    HttpSink sink;
    void *context;
} HttpRequest;

typedef struct HttpReply {
    int64_t received; /* bytes that the sink has taken, also of a failed transfer */
    int64_t total;    /* size of the whole file; -1: not told */
    bool whole;       /* the server sends all of the file where a range was asked for; nothing of it was taken */
    bool final;       /* failed in a way that trying again does not mend */
    bool connected;   /* a reply came */
    int code;         /* of HTTP; 0: none came */
    double wait;      /* seconds that the server asks to stay away (Retry-After); 0: not told */
    char validator[HTTP_MAX_VALIDATOR + 1]; /* ETag, else Last-Modified, else empty */
} HttpReply;

/* `patience` must outlive it, and ends transfers. ERR_UNSUPPORTED for a libcurl without http. */
Status http_create(Patience *patience, Http **out);
void http_free(Http *http); /* NULL is fine; no transfer may be under way */

/* STATUS_OK: all that was asked for has been taken (with count 0: all that the server said it has). ERR_IO: it came to
 * an end before; ERR_MISMATCH; ERR_INTERRUPTED; the sink's failure. Safe from several threads. */
Status http_get(Http *http, const HttpRequest *request, HttpReply *reply);

/* A URL without user, password, query and fragment: which file it is, also when a token in it is renewed. */
void http_plain(const char *url, char *out, size_t capacity);
/* A URL as messages may show it: the same, and "?..." for a query. */
void http_show(const char *url, char *out, size_t capacity);

#endif
