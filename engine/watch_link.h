/* The watchdog's connections: frames of fixed sizes over TCP, without waiting.
 *
 * Who connects must say the job's secret before it is heard; it travels in the clear, and keeps out whoever came to the
 * port by mistake. A link holds all its memory. */
#ifndef ENGINE_WATCH_LINK_H
#define ENGINE_WATCH_LINK_H

#include "engine/watch_verdict.h"

enum { WATCH_SECRET = 16, WATCH_ADDRESSES = 8 };

typedef enum WatchFrameType {
    WATCH_FRAME_HELLO = 0x56570001, /* child to parent: the secret's first half */
    WATCH_FRAME_WELCOME,            /* parent to child: the second */
    WATCH_FRAME_BEAT,               /* the position of `rank` */
    WATCH_FRAME_VERDICT,            /* to everybody: the job is to end */
    WATCH_FRAME_GOODBYE,            /* the sender closes in order */
    WATCH_FRAME_DONE,               /* child to parent: it and those below it are ready to end */
    WATCH_FRAME_END,                /* parent to child: all are */
    WATCH_FRAME_LAST
} WatchFrameType;

typedef struct WatchFrame {
    uint32_t type;
    int32_t rank; /* whom it is about */
    union {
        uint8_t secret[WATCH_SECRET];
        WatchPosition position;
        WatchVerdict verdict;
    } is;
} WatchFrame;

typedef struct WatchLink {
    int fd;   /* -1: none, or closed */
    int rank; /* at the other end; -1: not known yet */
    bool goodbye, done;
    double heard; /* the watchdog's clock when something last came */
    WatchPosition position;
    size_t in_used, out_used;
    union {
        uint8_t bytes[sizeof(WatchFrame)];
        WatchFrame frame;
    } in;
    uint8_t out[4 * sizeof(WatchFrame)];
} WatchLink;

typedef struct WatchAddress {
    uint8_t family; /* 4, 6; 0: none */
    uint8_t bytes[16];
} WatchAddress;

typedef struct WatchAddresses {
    int32_t port; /* 0: nobody listens */
    WatchAddress at[WATCH_ADDRESSES];
} WatchAddresses;

/* Listens on a free port: of all interfaces and says which, or of the loopback alone. */
Status watch_listen(bool far, int *fd, WatchAddresses *out);
/* Waits up to `seconds` for a connection to one of the addresses, or on the same machine to the loopback. ERR_COMM
 * names what was tried. *next: the place in the list to try first, then the one after that which answered. */
Status watch_connect(const WatchAddresses *to, bool same_machine, double seconds, int *next, int *fd);

void watch_link_open(WatchLink *link, int fd, int rank); /* takes the descriptor */
void watch_link_close(WatchLink *link);
/* Puts a frame into the link's buffer and sends what the system takes; false, and nothing done, where it has no room.
 */
bool watch_link_send(WatchLink *link, const WatchFrame *frame);
void watch_link_flush(WatchLink *link);

typedef enum WatchReceived { WATCH_NOTHING, WATCH_FRAME, WATCH_CLOSED } WatchReceived;
/* The next whole frame; its texts and numbers are within their bounds, its rank in [0, world). What is no frame counts
 * as closed. */
WatchReceived watch_link_receive(WatchLink *link, int world, WatchFrame *out);

#endif
