/* Status codes and the error trail.
 *
 * Every function that can fail returns a Status. The first failure records a message that says what to do, with file
 * and line; callers pass it on with TRY, which adds a line to the trail. The trail is per thread: a worker hands it to
 * another thread with status_save / status_restore.
 *
 * The shape of a function that can fail:
 *
 *     Status thing_open(const char *path, Thing **out)
 *     {
 *         Status status = STATUS_OK;
 *         Thing *thing = NULL;
 *         ...
 *         TRY(file_read(path, &bytes));
 *         if (bytes.size < 8) FAIL(ERR_FORMAT, "%s: %zu bytes, a header has 8; is the file complete?", path, size);
 *         *out = thing;
 *         return STATUS_OK;
 *     fail:
 *         thing_free(thing);
 *         return status;
 *     }
 */
#ifndef BASE_STATUS_H
#define BASE_STATUS_H

#include <stddef.h>

typedef enum Status {
    STATUS_OK = 0,
    ERR_USAGE,       /* wrong command line */
    ERR_CONFIG,      /* a config key, its value, or two that contradict each other */
    ERR_IO,          /* the operating system refused: missing file, full disk, permission */
    ERR_SPACE,       /* the disk that holds our own temporary files is full, or their folder cannot be written */
    ERR_FORMAT,      /* a file's contents are not what they should be */
    ERR_LIMIT,       /* a size above a limit of ours, checked before allocation */
    ERR_MEMORY,      /* an allocation failed */
    ERR_NUMERIC,     /* NaN or infinity where none may be */
    ERR_UNSUPPORTED, /* no kernel, no such device, a library built without the feature */
    ERR_COMM,        /* MPI or NCCL */
    ERR_INTERRUPTED, /* a signal asked us to stop */
    ERR_MISMATCH,    /* ranks, checkpoints or builds that must agree do not */
    ERR_INTERNAL,    /* a bug of ours */
    STATUS_END,      /* not an error: nothing more to read */
    STATUS_COUNT
} Status;

#define STATUS_MESSAGE_MAX 4096

/* A short name such as "config" or "io". */
const char *status_name(Status status);

/* The process exit code of a status: 0 ok, 2 usage and config, 3 io, space, format and limits, 4 memory, 5 numeric,
 * 6 communication and mismatch, 75 interrupted (asks a scheduler to requeue), 70 internal. */
int status_exit_code(Status status);

/* What a terminal would obey, but for tabs and line ends, becomes '?': texts may quote files that are hostile. */
void text_blunt_controls(char *text);

/* The last failure of this thread: the message, without the trail. Never NULL; valid until the next failure. */
const char *status_message(void);

/* The last failure's trail, one "file:line" a line, innermost first. */
const char *status_trail(void);

/* Records a failure and returns `status`. Use through FAIL. */
Status status_fail(Status status, const char *file, int line, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

/* Adds a caller to the trail and returns `status`. Use through TRY. */
Status status_trace(Status status, const char *file, int line);

/* Puts words before the recorded message, e.g. the file or sample that a lower room did not know. */
void status_prefix(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* A failure carried from one thread to another. */
typedef struct StatusRecord {
    Status status;
    char message[STATUS_MESSAGE_MAX];
    char trail[1024];
} StatusRecord;
void status_save(Status status, StatusRecord *out);
Status status_restore(const StatusRecord *record);

/* `code` is stored apart so that static analysis knows that a failure is not STATUS_OK. */
#define FAIL(code, ...)                                             \
    do {                                                            \
        status = (code);                                            \
        (void)status_fail(status, __FILE__, __LINE__, __VA_ARGS__); \
        goto fail;                                                  \
    } while (0)

/* For a call that records a failure and never returns STATUS_OK, such as file_system_error. */
#define FAIL_WITH(call)                           \
    do {                                          \
        status = (call);                          \
        status_trace(status, __FILE__, __LINE__); \
        goto fail;                                \
    } while (0)

#define TRY(call)                                     \
    do {                                              \
        status = (call);                              \
        if (status != STATUS_OK) {                    \
            status_trace(status, __FILE__, __LINE__); \
            goto fail;                                \
        }                                             \
    } while (0)

#endif
