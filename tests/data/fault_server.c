#include "fault_server.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/random.h"

#define MAX_CONNECTIONS 256
#define MAX_HEAD 4096
#define BLOCK 65536
#define CORRUPT_STEP 50021 /* bytes from one that is always wrong to the next */

const char *const FAULT_NAMES[FAULT_COUNT] = {"stall",  "cut",     "flip", "error", "busy",     "missing", "refuse",
                                              "longer", "shorter", "drip", "whole", "redirect", "other"};

typedef struct Connection {
    FaultServer *server;
    int fd; /* -1: free */
    pthread_t thread;
    bool started, ended;
} Connection;

struct FaultServer {
    char folder[512];
    int listener, port;
    pthread_t thread;
    atomic_bool stop;
    pthread_mutex_t lock; /* of all below */
    FaultOptions options;
    Connection connections[MAX_CONNECTIONS];
    int64_t requests, faults[FAULT_COUNT];
    char last[MAX_HEAD];
};

typedef struct Request {
    char name[512];
    bool head, has_range, moved; /* moved: asked for by the name of a redirect */
    int64_t first, last;         /* last -1: to the end */
    char if_range[256];
} Request;

/* What goes wrong with one request. */
typedef struct Draw {
    FaultOptions options;
    int64_t number;
    int fault; /* -1: none */
    int code;  /* 0: as it should be */
} Draw;

static void sleep_ms(int ms)
{
    struct timespec time = {ms / 1000, (long)(ms % 1000) * 1000000};
    nanosleep(&time, NULL);
}

static bool sleep_seconds(FaultServer *server, double seconds)
{
    for (int i = 0; i < (int)(seconds * 50) && !atomic_load(&server->stop); i++) sleep_ms(20);
    return !atomic_load(&server->stop);
}

static bool send_all(int fd, const char *data, size_t size)
{
    while (size > 0) {
        ssize_t sent = send(fd, data, size, MSG_NOSIGNAL);
        if (sent < 0 && errno == EINTR) continue;
        if (sent <= 0) return false;
        data += sent;
        size -= (size_t)sent;
    }
    return true;
}

/* ---- requests ---- */

static bool read_head(int fd, char head[MAX_HEAD])
{
    size_t size = 0;
    while (size + 1 < MAX_HEAD) {
        ssize_t got = recv(fd, head + size, 1, 0);
        if (got < 0 && errno == EINTR) continue;
        if (got <= 0) return false;
        head[++size] = 0;
        if (size >= 4 && memcmp(head + size - 4, "\r\n\r\n", 4) == 0) return true;
    }
    return false;
}

static bool parse_head(const char *head, Request *out)
{
    char method[8], path[512];
    *out = (Request){.last = -1};
    if (sscanf(head, "%7s %511s", method, path) != 2 || path[0] != '/' || strstr(path, "..")) return false;
    out->head = strcmp(method, "HEAD") == 0;
    out->moved = strncmp(path, "/moved/", 7) == 0;
    path[strcspn(path, "?")] = 0;
    snprintf(out->name, sizeof out->name, "%s", path + (out->moved ? 7 : 1));
    for (const char *line = strchr(head, '\n'); line; line = strchr(line, '\n')) {
        line++;
        if (strncasecmp(line, "Range: bytes=", 13) == 0) {
            char *end;
            out->has_range = true;
            out->first = strtoll(line + 13, &end, 10);
            if (*end == '-' && end[1] >= '0' && end[1] <= '9') out->last = strtoll(end + 1, NULL, 10);
        } else if (strncasecmp(line, "If-Range: ", 10) == 0)
            (void)sscanf(line + 10, "%255[^\r\n]", out->if_range);
    }
    return true;
}

static void draw_fault(FaultServer *server, const char *head, const Request *request, Draw *draw)
{
    pthread_mutex_lock(&server->lock);
    draw->options = server->options;
    draw->number = server->requests++;
    draw->fault = -1;
    draw->code = 0;
    snprintf(server->last, sizeof server->last, "%s", head);
    if (server->options.first_requests > 0) {
        server->options.first_requests--;
        draw->code = server->options.first_code;
    } else {
        double u = random_uniform(draw->options.seed, RANDOM_TEST, (uint64_t)draw->number, 0);
        for (int f = 0; f < FAULT_COUNT && draw->fault < 0; f++) {
            u -= draw->options.share[f];
            if (u < 0 && !(f == FAULT_REDIRECT && request->moved)) draw->fault = f;
        }
        if (draw->fault >= 0) server->faults[draw->fault]++;
    }
    pthread_mutex_unlock(&server->lock);
}

/* ---- replies ---- */

static bool send_code(int fd, int code, const char *more)
{
    char text[1024];
    static const char BODY[] = "a page that nobody wants to read\n";
    int length = snprintf(text, sizeof text, "HTTP/1.1 %d Trouble\r\n%sContent-Length: %zu\r\n\r\n%s", code, more,
                          sizeof BODY - 1, BODY);
    return send_all(fd, text, (size_t)length);
}

typedef struct Body {
    int file;
    int64_t first, size; /* that are to be sent */
    int64_t stop;        /* after so many the fault sets in; -1: never */
    int64_t flip;        /* position in the file of a byte that is made another; -1: none */
    bool corrupt;
} Body;

static void spoil(const Body *body, char *block, int64_t size, int64_t offset)
{
    if (body->flip >= offset && body->flip < offset + size) block[body->flip - offset] ^= 0x55;
    if (!body->corrupt) return;
    for (int64_t at = CORRUPT_STEP / 2; at < offset + size; at += CORRUPT_STEP)
        if (at >= offset) block[at - offset] ^= 0x55;
}

static bool send_body(FaultServer *server, int fd, const Body *body, bool drip)
{
    char *block = malloc(BLOCK);
    int64_t done = 0, size = body->stop >= 0 ? body->stop : body->size;
    bool good = block != NULL;
    while (good && done < size) {
        int64_t part = size - done < BLOCK ? size - done : BLOCK;
        if (pread(body->file, block, (size_t)part, body->first + done) != part) good = false;
        if (good) spoil(body, block, part, body->first + done);
        for (int64_t i = 0; good && drip && i < part; i++)
            good = send_all(fd, block + i, 1) && sleep_seconds(server, 0.02);
        if (good && !drip) good = send_all(fd, block, (size_t)part);
        done += part;
    }
    free(block);
    return good;
}

/* False: the connection is to be closed. */
static bool send_file(FaultServer *server, int fd, const Request *request, const Draw *draw, int file,
                      const struct stat *info)
{
    const FaultOptions *options = &draw->options;
    char head[1024], etag[64], range[128] = "";
    const int64_t size = info->st_size;
    bool part = request->has_range && !options->no_range && draw->fault != FAULT_WHOLE;
    snprintf(etag, sizeof etag, "\"%" PRIx64 "-%" PRIx64 "\"", (uint64_t)size,
             (uint64_t)info->st_mtim.tv_sec * 1000000000 + (uint64_t)info->st_mtim.tv_nsec);
    if (request->if_range[0] && strcmp(request->if_range, etag) != 0) part = false;
    Body body = {.file = file, .size = size, .stop = -1, .flip = -1};
    if (part) {
        if (request->first >= size) {
            snprintf(range, sizeof range, "Content-Range: bytes */%" PRId64 "\r\n", size);
            return send_code(fd, 416, range);
        }
        int64_t last = request->last >= 0 && request->last < size ? request->last : size - 1;
        body.first = request->first + (draw->fault == FAULT_OTHER && request->first < last);
        body.size = last - request->first + 1;
        const bool huge = options->huge && strstr(request->name, options->huge);
        snprintf(range, sizeof range, "Content-Range: bytes %" PRId64 "-%" PRId64 "/%" PRId64 "\r\n", body.first, last,
                 huge ? (int64_t)999999999999999999 : size);
        if (options->hole && strstr(request->name, options->hole) && body.first <= size / 2 && last >= size / 2)
            return send_code(fd, 500, "");
    }
    int64_t told = body.size;
    if (draw->fault == FAULT_LONGER) told += 1000;
    if (draw->fault == FAULT_SHORTER) body.size = told = body.size / 2;
    if (draw->fault == FAULT_FLIP && body.size > 0)
        body.flip = body.first +
                    (int64_t)random_below(options->seed, RANDOM_TEST, (uint64_t)draw->number, 1, (uint64_t)body.size);
    body.corrupt = options->corrupt && strstr(request->name, options->corrupt);
    if (draw->fault == FAULT_STALL || draw->fault == FAULT_CUT) body.stop = body.size / 2;
    if (options->truncated && strstr(request->name, options->truncated) && body.first + body.size > size / 2)
        body.stop = body.first < size / 2 ? size / 2 - body.first : 0;
    int length =
        snprintf(head, sizeof head, "HTTP/1.1 %s\r\n%s%s%s%s%sContent-Length: %" PRId64 "\r\n\r\n",
                 part ? "206 Partial Content" : "200 OK", range,
                 options->no_validator ? "" : "ETag: ", options->no_validator ? "" : etag,
                 options->no_validator ? "" : "\r\n", options->no_range ? "" : "Accept-Ranges: bytes\r\n", told);
    if (!send_all(fd, head, (size_t)length)) return false;
    if (request->head) return true;
    if (!send_body(server, fd, &body, draw->fault == FAULT_DRIP)) return false;
    if (draw->fault == FAULT_STALL) (void)sleep_seconds(server, options->stall_seconds);
    return body.stop < 0 && told == body.size;
}

static bool answer(FaultServer *server, int fd, const Request *request, const Draw *draw)
{
    const FaultOptions *options = &draw->options;
    char path[1200], more[1200];
    struct stat info;
    const char *name = request->name;
    snprintf(more, sizeof more, "Retry-After: %d\r\n", options->busy_seconds);
    if (draw->code) return send_code(fd, draw->code, draw->code == 503 ? more : "");
    if (options->gone && strstr(name, options->gone)) return send_code(fd, 404, "");
    if (options->loop && strstr(name, options->loop)) {
        snprintf(more, sizeof more, "Location: /%s\r\n", name);
        return send_code(fd, 302, more);
    }
    if (options->escape && strstr(name, options->escape)) return send_code(fd, 302, "Location: file:///etc/passwd\r\n");
    switch (draw->fault) {
    case FAULT_ERROR:
        return send_code(fd, 500, "");
    case FAULT_BUSY:
        return send_code(fd, 503, more);
    case FAULT_MISSING:
        return send_code(fd, 404, "");
    case FAULT_REFUSE:
        return false;
    case FAULT_REDIRECT:
        snprintf(more, sizeof more, "Location: /moved/%s\r\n", name);
        return send_code(fd, 302, more);
    default:
        break;
    }
    snprintf(path, sizeof path, "%s/%s", server->folder, name);
    int file = open(path, O_RDONLY | O_CLOEXEC);
    if (file < 0) return send_code(fd, 404, "");
    bool keep = fstat(file, &info) == 0 && S_ISREG(info.st_mode) ? send_file(server, fd, request, draw, file, &info)
                                                                 : send_code(fd, 403, "");
    close(file);
    return keep;
}

/* ---- connections ---- */

static void *serve(void *argument)
{
    Connection *connection = argument;
    FaultServer *server = connection->server;
    char head[MAX_HEAD];
    Request request;
    Draw draw;
    while (!atomic_load(&server->stop) && read_head(connection->fd, head) && parse_head(head, &request)) {
        draw_fault(server, head, &request, &draw);
        if (!answer(server, connection->fd, &request, &draw)) break;
    }
    pthread_mutex_lock(&server->lock);
    close(connection->fd);
    connection->fd = -1;
    connection->ended = true;
    pthread_mutex_unlock(&server->lock);
    return NULL;
}

static void accept_one(FaultServer *server)
{
    int fd = accept4(server->listener, NULL, NULL, SOCK_CLOEXEC), one = 1;
    if (fd < 0) return;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    pthread_mutex_lock(&server->lock);
    Connection *free_place = NULL;
    for (int i = 0; i < MAX_CONNECTIONS && !free_place; i++) {
        Connection *connection = &server->connections[i];
        if (connection->started && connection->ended) {
            pthread_join(connection->thread, NULL);
            connection->started = false;
        }
        if (!connection->started) free_place = connection;
    }
    if (free_place) {
        *free_place = (Connection){.server = server, .fd = fd};
        free_place->started = pthread_create(&free_place->thread, NULL, serve, free_place) == 0;
    }
    if (!free_place || !free_place->started) close(fd);
    pthread_mutex_unlock(&server->lock);
}

static void *listen_on(void *argument)
{
    FaultServer *server = argument;
    while (!atomic_load(&server->stop)) {
        struct pollfd wait = {.fd = server->listener, .events = POLLIN};
        if (poll(&wait, 1, 50) > 0) accept_one(server);
    }
    return NULL;
}

FaultServer *fault_server_start(const char *folder, int port, const FaultOptions *options)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    socklen_t size = sizeof address;
    int one = 1;
    FaultServer *server = calloc(1, sizeof *server);
    if (!server) return NULL;
    snprintf(server->folder, sizeof server->folder, "%s", folder);
    server->options = *options;
    pthread_mutex_init(&server->lock, NULL);
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    server->listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (server->listener < 0) goto fail;
    setsockopt(server->listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(server->listener, (struct sockaddr *)&address, sizeof address) != 0 ||
        listen(server->listener, 128) != 0 || getsockname(server->listener, (struct sockaddr *)&address, &size) != 0)
        goto fail;
    server->port = ntohs(address.sin_port);
    if (pthread_create(&server->thread, NULL, listen_on, server) != 0) goto fail;
    return server;
fail:
    if (server->listener >= 0) close(server->listener);
    free(server);
    return NULL;
}

void fault_server_stop(FaultServer *server)
{
    if (!server) return;
    atomic_store(&server->stop, true);
    pthread_join(server->thread, NULL);
    close(server->listener);
    pthread_mutex_lock(&server->lock);
    for (int i = 0; i < MAX_CONNECTIONS; i++)
        if (server->connections[i].fd > 0) shutdown(server->connections[i].fd, SHUT_RDWR);
    pthread_mutex_unlock(&server->lock);
    for (int i = 0; i < MAX_CONNECTIONS; i++)
        if (server->connections[i].started) pthread_join(server->connections[i].thread, NULL);
    pthread_mutex_destroy(&server->lock);
    free(server);
}

void fault_server_set(FaultServer *server, const FaultOptions *options)
{
    pthread_mutex_lock(&server->lock);
    server->options = *options;
    pthread_mutex_unlock(&server->lock);
}

int fault_server_port(const FaultServer *server)
{
    return server->port;
}

int64_t fault_server_requests(FaultServer *server)
{
    pthread_mutex_lock(&server->lock);
    int64_t n = server->requests;
    pthread_mutex_unlock(&server->lock);
    return n;
}

int64_t fault_server_faults(FaultServer *server, Fault fault)
{
    pthread_mutex_lock(&server->lock);
    int64_t n = server->faults[fault];
    pthread_mutex_unlock(&server->lock);
    return n;
}

void fault_server_last(FaultServer *server, char out[4096])
{
    pthread_mutex_lock(&server->lock);
    memcpy(out, server->last, MAX_HEAD);
    pthread_mutex_unlock(&server->lock);
}
