#include "engine/watch_link.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/file.h"

static const size_t HEAD = offsetof(WatchFrame, is);

/* Bytes of a frame; 0: there is no such type. */
static size_t frame_size(uint32_t type)
{
    switch ((WatchFrameType)type) {
    case WATCH_FRAME_HELLO:
    case WATCH_FRAME_WELCOME:
        return HEAD + WATCH_SECRET;
    case WATCH_FRAME_BEAT:
        return HEAD + sizeof(WatchPosition);
    case WATCH_FRAME_VERDICT:
        return HEAD + sizeof(WatchVerdict);
    case WATCH_FRAME_GOODBYE:
    case WATCH_FRAME_DONE:
    case WATCH_FRAME_END:
        return HEAD;
    case WATCH_FRAME_LAST:
        break;
    }
    return 0;
}

/* ---- addresses ---- */

static Status socket_error(const char *action)
{
    return status_fail(ERR_COMM, __FILE__, __LINE__, "the watchdog cannot %s: %s", action, strerror(errno));
}

/* Link-local addresses mean nothing elsewhere; the loopback is never listed. */
static void list_addresses(WatchAddresses *out)
{
    struct ifaddrs *all = NULL;
    int count = 0;
    if (getifaddrs(&all) != 0) return;
    for (const struct ifaddrs *one = all; one && count < WATCH_ADDRESSES; one = one->ifa_next) {
        if (!one->ifa_addr || !(one->ifa_flags & IFF_UP) || (one->ifa_flags & IFF_LOOPBACK)) continue;
        WatchAddress *to = &out->at[count];
        if (one->ifa_addr->sa_family == AF_INET) {
            struct sockaddr_in v4;
            memcpy(&v4, one->ifa_addr, sizeof v4);
            to->family = 4;
            memcpy(to->bytes, &v4.sin_addr, 4);
            count++;
        } else if (one->ifa_addr->sa_family == AF_INET6) {
            struct sockaddr_in6 v6;
            memcpy(&v6, one->ifa_addr, sizeof v6);
            if (IN6_IS_ADDR_LINKLOCAL(&v6.sin6_addr)) continue;
            to->family = 6;
            memcpy(to->bytes, &v6.sin6_addr, 16);
            count++;
        }
    }
    freeifaddrs(all);
}

static socklen_t socket_address(const WatchAddress *address, int port, struct sockaddr_storage *out)
{
    memset(out, 0, sizeof *out);
    if (address->family == 4) {
        struct sockaddr_in v4 = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
        memcpy(&v4.sin_addr, address->bytes, 4);
        memcpy(out, &v4, sizeof v4);
        return sizeof v4;
    }
    struct sockaddr_in6 v6 = {.sin6_family = AF_INET6, .sin6_port = htons((uint16_t)port)};
    memcpy(&v6.sin6_addr, address->bytes, 16);
    memcpy(out, &v6, sizeof v6);
    return sizeof v6;
}

static const WatchAddress LOOPBACK = {.family = 4, .bytes = {127, 0, 0, 1}};

/* One socket of both families, or of IPv4 where the system has no other. */
static Status listen_at(const WatchAddress *address, int *out)
{
    Status status = STATUS_OK;
    struct sockaddr_storage name;
    const int off = 0;
    const socklen_t size = socket_address(address, 0, &name);
    const int fd = socket(name.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) FAIL_WITH(socket_error("make a socket"));
    if (address->family == 6) (void)setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &off, sizeof off);
    if (bind(fd, (struct sockaddr *)&name, size) != 0) FAIL_WITH(socket_error("take a port"));
    if (listen(fd, SOMAXCONN) != 0) FAIL_WITH(socket_error("listen"));
    *out = fd;
    return STATUS_OK;
fail:
    if (fd >= 0) close(fd);
    return status;
}

Status watch_listen(bool far, int *fd, WatchAddresses *out)
{
    Status status = STATUS_OK;
    struct sockaddr_storage name = {0};
    socklen_t size = sizeof name;
    const WatchAddress any6 = {.family = 6}, any4 = {.family = 4};
    memset(out, 0, sizeof *out);
    *fd = -1;
    if (!far)
        TRY(listen_at(&LOOPBACK, fd));
    else if (listen_at(&any6, fd) != STATUS_OK)
        TRY(listen_at(&any4, fd));
    if (getsockname(*fd, (struct sockaddr *)&name, &size) != 0) FAIL_WITH(socket_error("see its port"));
    if (name.ss_family == AF_INET6) {
        struct sockaddr_in6 v6;
        memcpy(&v6, &name, sizeof v6);
        out->port = ntohs(v6.sin6_port);
    } else {
        struct sockaddr_in v4;
        memcpy(&v4, &name, sizeof v4);
        out->port = ntohs(v4.sin_port);
    }
    if (far) list_addresses(out);
    return STATUS_OK;
fail:
    if (*fd >= 0) close(*fd);
    *fd = -1;
    return status;
}

/* -1, and errno, where nobody answers in time. */
static int connect_within(const WatchAddress *address, int port, double seconds)
{
    struct sockaddr_storage name;
    const socklen_t size = socket_address(address, port, &name);
    int error = 0;
    socklen_t error_size = sizeof error;
    const int fd = socket(name.ss_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) return -1;
    if (connect(fd, (struct sockaddr *)&name, size) != 0) {
        struct pollfd wait = {.fd = fd, .events = POLLOUT};
        if (errno != EINPROGRESS)
            error = errno;
        else if (poll(&wait, 1, (int)(seconds * 1e3)) != 1)
            error = ETIMEDOUT;
        else if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &error_size) != 0)
            error = errno;
    }
    if (error == 0) return fd;
    close(fd);
    errno = error;
    return -1;
}

static void describe(const WatchAddress *address, char out[INET6_ADDRSTRLEN])
{
    if (!inet_ntop(address->family == 4 ? AF_INET : AF_INET6, address->bytes, out, INET6_ADDRSTRLEN)) out[0] = '\0';
}

Status watch_connect(const WatchAddresses *to, bool same_machine, double seconds, int *next, int *fd)
{
    char tried[512] = "";
    size_t used = 0;
    const double end = clock_seconds() + seconds;
    const int count = same_machine ? 1 : WATCH_ADDRESSES;
    *fd = -1;
    for (int k = 0; k < count; k++) {
        const int place = (*next + k) % count;
        const WatchAddress *address = same_machine ? &LOOPBACK : &to->at[place];
        double left = end - clock_seconds();
        if (address->family != 4 && address->family != 6) continue;
        if (left > 3) left = 3; /* the next address may answer */
        if (left < 0.1) left = 0.1;
        *fd = connect_within(address, to->port, left);
        if (*fd >= 0) {
            *next = place + 1;
            return STATUS_OK;
        }
        char text[INET6_ADDRSTRLEN];
        const char *why = strerror(errno);
        describe(address, text);
        if (used < sizeof tried)
            used += (size_t)snprintf(tried + used, sizeof tried - used, "%s%s (%s)", used ? ", " : "", text, why);
    }
    *next = 0;
    return status_fail(ERR_COMM, __FILE__, __LINE__, "no answer on port %d at %s", (int)to->port,
                       used ? tried : "any address: the other machine has none but its loopback");
}

/* ---- links ---- */

void watch_link_open(WatchLink *link, int fd, int rank)
{
    const int on = 1;
    memset(link, 0, sizeof *link);
    link->fd = fd;
    link->rank = rank;
    link->position.begun = link->position.oldest = link->position.step = -1;
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    (void)fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
}

void watch_link_close(WatchLink *link)
{
    if (link->fd >= 0) close(link->fd);
    link->fd = -1;
}

/* What cannot be sent is lost with the connection; that it is closed is seen by reading. */
void watch_link_flush(WatchLink *link)
{
    while (link->fd >= 0 && link->out_used > 0) {
        const ssize_t n = send(link->fd, link->out, link->out_used, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) return;
        if (n <= 0) {
            link->out_used = 0;
            return;
        }
        link->out_used -= (size_t)n;
        memmove(link->out, link->out + n, link->out_used);
    }
}

bool watch_link_send(WatchLink *link, const WatchFrame *frame)
{
    const size_t size = frame_size(frame->type);
    /* A heartbeat too many may be left out, the rest may not. */
    const size_t spare = frame->type == WATCH_FRAME_BEAT ? 2 * sizeof(WatchFrame) : 0;
    if (link->fd < 0) return false;
    watch_link_flush(link);
    if (link->out_used + size + spare > sizeof link->out) return false;
    memcpy(link->out + link->out_used, frame, size);
    link->out_used += size;
    watch_link_flush(link);
    return true;
}

static bool check_frame(WatchFrame *frame, int world)
{
    if (frame->rank < 0 || frame->rank >= world) return false;
    if (frame->type == WATCH_FRAME_BEAT) return watch_position_check(&frame->is.position);
    if (frame->type == WATCH_FRAME_VERDICT) return watch_verdict_check(&frame->is.verdict, world);
    return true;
}

WatchReceived watch_link_receive(WatchLink *link, int world, WatchFrame *out)
{
    for (;;) {
        size_t wanted = HEAD;
        if (link->fd < 0) return WATCH_CLOSED;
        if (link->in_used >= HEAD) {
            wanted = frame_size(link->in.frame.type);
            if (wanted == 0) return WATCH_CLOSED;
            if (link->in_used == wanted) {
                memset(out, 0, sizeof *out);
                memcpy(out, link->in.bytes, wanted);
                link->in_used = 0;
                return check_frame(out, world) ? WATCH_FRAME : WATCH_CLOSED;
            }
        }
        const ssize_t n = recv(link->fd, link->in.bytes + link->in_used, wanted - link->in_used, MSG_DONTWAIT);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) return WATCH_NOTHING;
        if (n <= 0) return WATCH_CLOSED;
        link->in_used += (size_t)n;
    }
}
