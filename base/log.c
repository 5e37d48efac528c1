#include "base/log.h"

#include <errno.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include "base/status.h"

#define LINE_MAX_BYTES 8192
#define LIVE_MAX_BYTES 1024
#define CLEAR_LINE "\r\033[K"

static struct {
    pthread_mutex_t mutex;
    LogLevel level;
    int rank, world;
    char live[LIVE_MAX_BYTES]; /* what stands on the terminal's last line now; empty: nothing */
} state = {.mutex = PTHREAD_MUTEX_INITIALIZER, .level = LOG_INFO, .world = 1};

void log_configure(LogLevel level, int rank, int world)
{
    pthread_mutex_lock(&state.mutex);
    state.level = level;
    state.rank = rank;
    state.world = world;
    pthread_mutex_unlock(&state.mutex);
}

int log_rank(void)
{
    pthread_mutex_lock(&state.mutex);
    int rank = state.rank;
    pthread_mutex_unlock(&state.mutex);
    return rank;
}

int log_is_terminal(void)
{
    int saved = errno;
    int yes = isatty(STDERR_FILENO);
    errno = saved;
    return yes;
}

/* One write(2) a line where the system allows, so lines of several ranks do not mix. */
static void write_all(const char *data, size_t size)
{
    while (size > 0) {
        ssize_t n = write(STDERR_FILENO, data, size);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) return; /* nobody is left to be told */
        data += n;
        size -= (size_t)n;
    }
}

/* How many bytes of `text` fill at most `columns` terminal cells, counting one a character. */
static size_t fit_columns(const char *text, size_t size, size_t columns)
{
    size_t i = 0;
    for (size_t used = 0; i < size; i++) {
        if (((unsigned char)text[i] & 0xc0) == 0x80) continue;
        if (used++ == columns) break;
    }
    return i;
}

void log_write(LogLevel level, const char *format, ...)
{
    static const char *const NAMES[] = {"debug", "info", "warn", "error"};
    int saved = errno;
    pthread_mutex_lock(&state.mutex);
    bool drop = level < state.level || (state.rank > 0 && level < LOG_WARN);
    int rank = state.rank, world = state.world;
    pthread_mutex_unlock(&state.mutex);
    if (drop) {
        errno = saved;
        return;
    }

    char line[LINE_MAX_BYTES + LIVE_MAX_BYTES + 2 * sizeof CLEAR_LINE];
    size_t used = sizeof CLEAR_LINE - 1; /* room for the clearing, sent only when a live line stands there */
    memcpy(line, CLEAR_LINE, used);
    struct tm now;
    time_t seconds = time(NULL);
    localtime_r(&seconds, &now);
    used += strftime(line + used, 16, "%H:%M:%S ", &now);
    const char *name = level >= LOG_DEBUG && level <= LOG_ERROR ? NAMES[level] : "?";
    used += (size_t)snprintf(line + used, 32, "%-5s ", name);
    if (world > 1) used += (size_t)snprintf(line + used, 32, "[%d] ", rank);
    size_t message = used;
    va_list args;
    va_start(args, format);
    errno = saved; /* for %m */
    int length = vsnprintf(line + used, LINE_MAX_BYTES - used - 1, format, args);
    va_end(args);
    if (length > 0) {
        size_t room = LINE_MAX_BYTES - used - 2;
        used += (size_t)length < room ? (size_t)length : room;
    }
    line[used] = '\0';
    text_blunt_controls(line + message);
    while (used > 0 && line[used - 1] == '\n') used--;
    line[used++] = '\n';

    pthread_mutex_lock(&state.mutex);
    size_t start = sizeof CLEAR_LINE - 1;
    if (state.live[0]) {
        start = 0;
        size_t live = strlen(state.live);
        memcpy(line + used, state.live, live);
        used += live;
    }
    write_all(line + start, used - start);
    pthread_mutex_unlock(&state.mutex);
    errno = saved;
}

void log_live_line(const char *text)
{
    if (!log_is_terminal()) return;
    int saved = errno;
    struct winsize window = {0};
    size_t columns = 79;
    if (ioctl(STDERR_FILENO, TIOCGWINSZ, &window) == 0 && window.ws_col > 1) columns = (size_t)window.ws_col - 1;

    char line[LIVE_MAX_BYTES + sizeof CLEAR_LINE];
    size_t start = sizeof CLEAR_LINE - 1, size = 0;
    memcpy(line, CLEAR_LINE, start);
    pthread_mutex_lock(&state.mutex);
    bool stood = state.live[0] != '\0';
    if (text) {
        /* Wider than the window it would wrap, and the next carriage return would clear the last part only. */
        size = fit_columns(text, strnlen(text, LIVE_MAX_BYTES - 1), columns);
        memcpy(line + start, text, size);
    }
    memcpy(state.live, line + start, size);
    state.live[size] = '\0';
    if (stood || size > 0) write_all(line, start + size);
    pthread_mutex_unlock(&state.mutex);
    errno = saved;
}
