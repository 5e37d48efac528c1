/* The log: plain lines on standard error, "HH:MM:SS level [rank] message". */
#ifndef BASE_LOG_H
#define BASE_LOG_H

typedef enum LogLevel { LOG_DEBUG, LOG_INFO, LOG_WARN, LOG_ERROR } LogLevel;

/* Lines below `level` are dropped. Ranks above 0 print warnings and errors only. Default: info, rank 0 of 1. */
void log_configure(LogLevel level, int rank, int world);
int log_rank(void);

/* Characters that a terminal obeys (but for newlines and tabs), such as come in names inside archives, are shown as ?.
 */
void log_write(LogLevel level, const char *format, ...) __attribute__((format(printf, 2, 3)));

#define log_debug(...) log_write(LOG_DEBUG, __VA_ARGS__)
#define log_info(...) log_write(LOG_INFO, __VA_ARGS__)
#define log_warn(...) log_write(LOG_WARN, __VA_ARGS__)
#define log_error(...) log_write(LOG_ERROR, __VA_ARGS__)

/* The live line of a terminal. While one is set, log lines are printed above it. NULL removes it.
 * Does nothing where standard error is not a terminal. */
void log_live_line(const char *text);
int log_is_terminal(void);

#endif
