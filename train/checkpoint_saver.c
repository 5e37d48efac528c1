#include "train/checkpoint_saver.h"

#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/log.h"
#include "model/weight_shares.h"
#include "train/checkpoint_write.h"

enum { OTHER_FILES = 2 * CHECKPOINT_ARRAYS + 1 }; /* besides shares: arrays or their indices, state.json */

typedef enum Job { JOB_NONE, JOB_WRITE, JOB_COMMIT, JOB_QUIT } Job;

struct CheckpointSaver {
    SaverOptions options;
    CheckpointDeal deal;
    Snapshot snapshot;
    CheckpointWriter *writer;

    /* Of the save under way; the thread's while it is busy. */
    int64_t step;
    char temporary[PATH_MAX]; /* step-N.tmp */
    StrBuf state_text;        /* rank 0 */
    FileFacts *facts;         /* (world + OTHER_FILES) */
    size_t fact_count;
    double begun, seconds;

    bool running; /* there is a thread */
    pthread_t thread;
    pthread_mutex_t mutex;
    pthread_cond_t changed;
    Job job;             /* under the mutex; JOB_NONE: not busy */
    SaverState state;    /* likewise, once not busy */
    StatusRecord failed; /* likewise; status OK: it has not */
};

/* ---- the work ---- */

static Status write_state(CheckpointSaver *s)
{
    Status status = STATUS_OK;
    char path[PATH_MAX];
    TRY(path_join(path, sizeof path, s->temporary, "state.json"));
    TRY(file_write_atomic(path, s->state_text.data, s->state_text.size));
    TRY(file_facts_take(s->temporary, "state.json", &s->facts[s->fact_count++]));
fail:
    return status;
}

static Status commit(CheckpointSaver *s, bool *committed)
{
    Status status = STATUS_OK;
    const SaverOptions *o = &s->options;
    size_t indices = 0;
    *committed = false;
    if (o->world > 1)
        TRY(checkpoint_write_indices(&s->snapshot, o->exchange, o->world, o->group, s->temporary,
                                     s->facts + s->fact_count, &indices));
    s->fact_count += indices;
    TRY(write_state(s));
    TRY(manifest_write(s->temporary, o->world > 1 ? CHECKPOINT_FORMAT_SHARES : CHECKPOINT_FORMAT_WHOLE, s->step,
                       s->facts, s->fact_count));
    TRY(checkpoint_commit(o->folder, s->step, o->keep, committed));
fail:
    return status;
}

static Status write_files(CheckpointSaver *s)
{
    Status status = STATUS_OK;
    TRY(file_make_dirs(s->temporary)); /* rank 0 has made it, but a network's file system may not show that yet */
    TRY(checkpoint_writer_write(s->writer, s->temporary, s->facts, &s->fact_count));
    TRY(file_sync(s->temporary));
fail:
    return status;
}

/* What this rank alone is to blame for is not left behind; the rest is rank 0's (saver_remove). */
static void remove_own(CheckpointSaver *s)
{
    char path[PATH_MAX], name[WEIGHT_SHARE_NAME_MAX];
    if (s->options.world == 1) {
        (void)file_remove_tree(s->temporary);
        return;
    }
    weight_share_name(name, s->options.rank, s->options.world);
    if (path_join(path, sizeof path, s->temporary, name) == STATUS_OK) unlink(path);
}

static Status work(CheckpointSaver *s, Job job, SaverState *state)
{
    Status status = STATUS_OK;
    StatusRecord record;
    bool committed = false;
    *state = SAVER_WRITTEN;
    if (job == JOB_WRITE) TRY(write_files(s));
    if (job == JOB_WRITE && s->options.world > 1) return STATUS_OK;
    TRY(commit(s, &committed));
    *state = SAVER_COMMITTED;
    s->seconds = clock_seconds() - s->begun;
    return STATUS_OK;
fail:
    *state = SAVER_IDLE;
    if (committed) return status;
    status_save(status, &record);
    remove_own(s);
    status = status_restore(&record);
    status_prefix("the checkpoint of step %lld could not be saved, older ones are as they were: ", (long long)s->step);
    return status;
}

/* ---- the thread ---- */

static void *serve(void *context)
{
    CheckpointSaver *s = context;
    pthread_mutex_lock(&s->mutex);
    while (s->job != JOB_QUIT) {
        if (s->job == JOB_NONE) {
            pthread_cond_wait(&s->changed, &s->mutex);
            continue;
        }
        const Job job = s->job;
        SaverState state;
        pthread_mutex_unlock(&s->mutex);
        const Status status = work(s, job, &state);
        pthread_mutex_lock(&s->mutex);
        status_save(status, &s->failed);
        s->state = state;
        s->job = JOB_NONE;
        pthread_cond_broadcast(&s->changed);
    }
    pthread_mutex_unlock(&s->mutex);
    return NULL;
}

/* Signals are for the thread that trains. */
static Status start_thread(CheckpointSaver *s)
{
    Status status = STATUS_OK;
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    const int error = pthread_create(&s->thread, NULL, serve, s);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (error)
        FAIL(ERR_MEMORY, "no thread to write checkpoints: %s; raise ulimit -u, or set checkpoint.async: false",
             strerror(error));
    s->running = true;
fail:
    return status;
}

static void wait_idle(CheckpointSaver *s)
{
    pthread_mutex_lock(&s->mutex);
    while (s->job != JOB_NONE) pthread_cond_wait(&s->changed, &s->mutex);
    pthread_mutex_unlock(&s->mutex);
}

/* Hands a job to the thread, or does it. */
static void start(CheckpointSaver *s, Job job)
{
    if (!s->running) {
        const Status status = work(s, job, &s->state);
        status_save(status, &s->failed);
        return;
    }
    pthread_mutex_lock(&s->mutex);
    s->job = job;
    s->state = SAVER_BUSY;
    pthread_cond_broadcast(&s->changed);
    pthread_mutex_unlock(&s->mutex);
}

/* ---- for the thread that trains ---- */

Status saver_create(const SaverOptions *options, CheckpointSaver **out)
{
    Status status = STATUS_OK;
    CheckpointSaver *s = mem_alloc_array(1, sizeof *s);
    *out = NULL;
    if (!s) return status_fail(ERR_MEMORY, __FILE__, __LINE__, "out of memory");
    s->options = *options;
    pthread_mutex_init(&s->mutex, NULL);
    pthread_cond_init(&s->changed, NULL);
    s->facts = mem_alloc_array((size_t)options->world + OTHER_FILES, sizeof *s->facts);
    if (!s->facts) FAIL(ERR_MEMORY, "no memory for the files of %d ranks", options->world);
    TRY(checkpoint_deal_make(options->exchange, options->world, options->group, options->rank, &s->deal));
    TRY(snapshot_create(&(SnapshotOptions){.store = options->store,
                                           .optimizer = options->optimizer,
                                           .backend = options->backend,
                                           .deal = &s->deal,
                                           .copies = options->async},
                        &s->snapshot));
    TRY(checkpoint_writer_create(&s->snapshot, options->rank, options->world, &s->writer));
    if (options->async) TRY(start_thread(s));
    *out = s;
    return STATUS_OK;
fail:
    saver_free(s);
    return status;
}

void saver_free(CheckpointSaver *s)
{
    if (!s) return;
    if (s->running) {
        wait_idle(s);
        pthread_mutex_lock(&s->mutex);
        s->job = JOB_QUIT;
        pthread_cond_broadcast(&s->changed);
        pthread_mutex_unlock(&s->mutex);
        pthread_join(s->thread, NULL);
    }
    checkpoint_writer_free(s->writer);
    snapshot_free(&s->snapshot);
    checkpoint_deal_free(&s->deal);
    strbuf_free(&s->state_text);
    free(s->facts);
    pthread_cond_destroy(&s->changed);
    pthread_mutex_destroy(&s->mutex);
    free(s);
}

bool saver_is_async(const CheckpointSaver *s)
{
    return s->running;
}

Status saver_prepare(CheckpointSaver *s, int64_t step)
{
    Status status = STATUS_OK;
    const int64_t arrays = snapshot_has(&s->snapshot, CHECKPOINT_EMA) ? CHECKPOINT_ARRAYS : CHECKPOINT_ARRAYS - 1;
    const int64_t parameters = param_table_trainable_parameters(s->options.store->table);
    TRY(checkpoint_prepare(s->options.folder, step, arrays * parameters * (int64_t)sizeof(float)));
    return STATUS_OK;
fail:
    status_prefix("the checkpoint of step %lld could not be saved, older ones are as they were: ", (long long)step);
    return status;
}

Status saver_begin(CheckpointSaver *s, int64_t step, const CheckpointState *state)
{
    Status status = STATUS_OK;
    s->begun = clock_seconds();
    s->step = step;
    s->fact_count = 0;
    s->failed.status = STATUS_OK;
    TRY(checkpoint_step_path(s->temporary, s->options.folder, step, ".tmp"));
    strbuf_free(&s->state_text);
    if (state) TRY(checkpoint_format_state(state, &s->state_text));
    TRY(snapshot_take(&s->snapshot));
    start(s, JOB_WRITE);
fail:
    return status;
}

Status saver_look(CheckpointSaver *s, SaverState *state)
{
    pthread_mutex_lock(&s->mutex);
    const bool busy = s->job != JOB_NONE;
    pthread_mutex_unlock(&s->mutex);
    *state = busy ? SAVER_BUSY : s->state;
    return busy || s->failed.status == STATUS_OK ? STATUS_OK : status_restore(&s->failed);
}

Status saver_wait(CheckpointSaver *s, SaverState *state)
{
    wait_idle(s);
    return saver_look(s, state);
}

FileFacts saver_share(const CheckpointSaver *s)
{
    return s->facts[0];
}

void saver_commit(CheckpointSaver *s, const FileFacts *shares)
{
    memcpy(s->facts, shares, (size_t)s->options.world * sizeof *shares);
    s->fact_count = (size_t)s->options.world;
    start(s, JOB_COMMIT);
}

void saver_end(CheckpointSaver *s)
{
    s->state = SAVER_IDLE;
    s->failed.status = STATUS_OK;
}

void saver_remove(CheckpointSaver *s)
{
    if (file_remove_tree(s->temporary) != STATUS_OK) log_warn("%s", status_message());
}

double saver_seconds(const CheckpointSaver *s)
{
    return s->seconds;
}
