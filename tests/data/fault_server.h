/* A web server that misbehaves on purpose: it serves the files of a folder on 127.0.0.1, with ranges, and draws for
 * every request by a seed what goes wrong. For tests and soaks; not for the world. */
#ifndef TESTS_DATA_FAULT_SERVER_H
#define TESTS_DATA_FAULT_SERVER_H

#include <stdbool.h>
#include <stdint.h>

typedef enum Fault {
    FAULT_STALL,    /* half of the body, then nothing for stall_seconds */
    FAULT_CUT,      /* half of the body, then the connection is closed */
    FAULT_FLIP,     /* one byte of the body is another */
    FAULT_ERROR,    /* 500 */
    FAULT_BUSY,     /* 503 with Retry-After: busy_seconds */
    FAULT_MISSING,  /* 404, although the file is there */
    FAULT_REFUSE,   /* the connection is closed before a word */
    FAULT_LONGER,   /* Content-Length says more than is sent */
    FAULT_SHORTER,  /* Content-Length says less, and so much is sent */
    FAULT_DRIP,     /* the body comes at 50 bytes a second */
    FAULT_WHOLE,    /* Range is passed over: 200 and all of the file */
    FAULT_REDIRECT, /* 302 to the same file by another name */
    FAULT_OTHER,    /* another range than was asked for */
    FAULT_COUNT
} Fault;

extern const char *const FAULT_NAMES[FAULT_COUNT];

typedef struct FaultOptions {
    uint64_t seed;
    double share[FAULT_COUNT]; /* of requests; at most one fault each */
    double stall_seconds;
    int busy_seconds;
    int first_requests, first_code; /* so many of the next requests are answered with this code */
    bool no_range, no_validator;
    /* Files whose name contains the word are broken for good: 404; cut in the middle; some bytes always wrong;
     * redirected to themselves; redirected to file://; 500 for what touches the middle; said to have 10^18 bytes. NULL:
     * none. */
    const char *gone, *truncated, *corrupt, *loop, *escape, *hole, *huge;
} FaultOptions;

typedef struct FaultServer FaultServer;

/* NULL when it cannot start (errno). The words must outlive it. Port 0: any. */
FaultServer *fault_server_start(const char *folder, int port, const FaultOptions *options);
void fault_server_set(FaultServer *server, const FaultOptions *options);
int fault_server_port(const FaultServer *server);
int64_t fault_server_requests(FaultServer *server);
int64_t fault_server_faults(FaultServer *server, Fault fault);
/* Headers of the request seen last, for looking at. */
void fault_server_last(FaultServer *server, char out[4096]);
void fault_server_stop(FaultServer *server); /* ends every connection; NULL is fine */

#endif
