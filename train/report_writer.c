#include "train/report_writer.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/file.h"
#include "base/log.h"
#include "train/report.h"

struct ReportWriter {
    RunHistory *history;     /* the thread's, while it runs */
    ReportPictures pictures; /* likewise */
    char path[PATH_MAX];
    pthread_t thread;
    bool started;     /* the thread is to be joined */
    atomic_bool done; /* it has nothing left to do */
    bool complained;
};

static Status write_page(RunHistory *history, ReportPictures *pictures, const char *path)
{
    Status status = STATUS_OK;
    StrBuf page = {0};
    TRY(run_history_read(history));
    TRY(report_pictures_update(pictures, history->dir.previews));
    TRY(report_format(history, pictures, &page));
    TRY(file_write_atomic(path, page.data, page.size));
fail:
    strbuf_free(&page);
    return status;
}

Status report_write(RunHistory *history, const char *path)
{
    Status status = STATUS_OK;
    ReportPictures pictures = {0};
    char usual[PATH_MAX];
    TRY(path_join(usual, sizeof usual, history->dir.path, "report.html"));
    TRY(write_page(history, &pictures, path ? path : usual));
fail:
    report_pictures_free(&pictures);
    return status;
}

/* A page that cannot be written is no reason to end a run. */
static void make(ReportWriter *writer)
{
    if (write_page(writer->history, &writer->pictures, writer->path) == STATUS_OK || writer->complained) return;
    writer->complained = true;
    log_warn("the report is not written: %s", status_message());
}

static void *thread_main(void *context)
{
    ReportWriter *writer = context;
    /* On Linux of this thread alone: who computes goes first. */
    (void)setpriority(PRIO_PROCESS, (id_t)gettid(), 19);
    make(writer);
    atomic_store(&writer->done, true);
    return NULL;
}

Status report_writer_open(const char *folder, ReportWriter **out)
{
    Status status = STATUS_OK;
    *out = NULL;
    ReportWriter *writer = mem_alloc_array(1, sizeof *writer);
    if (!writer) FAIL(ERR_MEMORY, "out of memory");
    TRY(run_history_open(folder, &writer->history));
    TRY(path_join(writer->path, sizeof writer->path, writer->history->dir.path, "report.html"));
    *out = writer;
    return STATUS_OK;
fail:
    report_writer_free(writer);
    return status;
}

static void join(ReportWriter *writer)
{
    if (writer->started) pthread_join(writer->thread, NULL);
    writer->started = false;
}

void report_writer_begin(ReportWriter *writer)
{
    sigset_t all, before;
    if (writer->started && !atomic_load(&writer->done)) return;
    join(writer);
    atomic_store(&writer->done, false);
    /* Signals are for the trainer's thread. */
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    writer->started = pthread_create(&writer->thread, NULL, thread_main, writer) == 0;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
}

void report_writer_finish(ReportWriter *writer)
{
    join(writer);
    make(writer);
}

void report_writer_free(ReportWriter *writer)
{
    if (!writer) return;
    join(writer);
    run_history_free(writer->history);
    report_pictures_free(&writer->pictures);
    free(writer);
}
