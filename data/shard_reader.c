#include "data/shard_reader.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

#include "base/queue.h"
#include "data/loader.h"

struct ShardReader {
    CandidateContext context;
    FilterSet *filters;
    Candidate *candidates; /* a ring: sample n of the shard is at n mod count */
    int count;
    int32_t source, shard;
    int64_t samples, issued, taken; /* taken: given to the caller or dropped */
    Queue *jobs;
    pthread_t threads[LOADER_MAX_THREADS];
    int started;
    bool locks;
    atomic_bool stop;
    pthread_mutex_t lock;
    pthread_cond_t done;
};

static void *work(void *argument)
{
    ShardReader *reader = argument;
    CandidateScratch scratch = {0};
    Candidate *candidate;
    while ((candidate = queue_pop(reader->jobs)) != NULL) {
        if (!atomic_load(&reader->stop)) candidate_process(&reader->context, &scratch, candidate);
        pthread_mutex_lock(&reader->lock);
        candidate->done = true;
        pthread_cond_signal(&reader->done);
        pthread_mutex_unlock(&reader->lock);
    }
    candidate_scratch_free(&scratch);
    return NULL;
}

Status shard_reader_open(const DataConfig *config, ShardStore *store, int resolution, bool pixels, ShardReader **out)
{
    Status status = STATUS_OK;
    int threads = loader_threads(config);
    size_t side = (size_t)resolution;
    *out = NULL;
    ShardReader *reader = mem_alloc_array(1, sizeof *reader);
    if (!reader) FAIL(ERR_MEMORY, "out of memory to read shards");
    TRY(filter_set_create(NULL, "data", config, &reader->filters));
    reader->context =
        (CandidateContext){.config = config, .filters = reader->filters, .store = store, .resolution = resolution};
    atomic_init(&reader->stop, false);
    if (pthread_mutex_init(&reader->lock, NULL) != 0) FAIL(ERR_MEMORY, "cannot create a lock");
    if (pthread_cond_init(&reader->done, NULL) != 0) {
        pthread_mutex_destroy(&reader->lock);
        FAIL(ERR_MEMORY, "cannot create a lock");
    }
    reader->locks = true;
    int count = 4 * threads + 1;
    reader->candidates = mem_alloc_array((size_t)count, sizeof reader->candidates[0]);
    if (!reader->candidates) FAIL(ERR_MEMORY, "out of memory for samples under way");
    reader->count = count;
    for (int i = 0; i < count && pixels; i++) {
        reader->candidates[i].pixels = mem_alloc_array(side * side, 3);
        if (!reader->candidates[i].pixels) FAIL(ERR_MEMORY, "out of memory for samples under way");
    }
    TRY(queue_create((size_t)count, &reader->jobs));
    for (; reader->started < threads; reader->started++)
        if (pthread_create(&reader->threads[reader->started], NULL, work, reader) != 0)
            FAIL(ERR_MEMORY, "cannot start decode thread %d; lower data.decode_threads", reader->started);
    *out = reader;
    return STATUS_OK;
fail:
    shard_reader_close(reader);
    return status;
}

void shard_reader_close(ShardReader *reader)
{
    if (!reader) return;
    atomic_store(&reader->stop, true);
    if (reader->jobs) queue_close(reader->jobs);
    for (int i = 0; i < reader->started; i++) pthread_join(reader->threads[i], NULL);
    for (int i = 0; i < reader->count; i++) candidate_free(&reader->candidates[i]);
    queue_free(reader->jobs);
    if (reader->locks) {
        pthread_mutex_destroy(&reader->lock);
        pthread_cond_destroy(&reader->done);
    }
    free(reader->candidates);
    filter_set_free(reader->filters);
    free(reader);
}

static Candidate *place_of(ShardReader *reader, int64_t sample)
{
    return &reader->candidates[sample % reader->count];
}

static void wait_for(ShardReader *reader, const Candidate *candidate)
{
    pthread_mutex_lock(&reader->lock);
    while (!candidate->done) pthread_cond_wait(&reader->done, &reader->lock);
    pthread_mutex_unlock(&reader->lock);
}

void shard_reader_begin(ShardReader *reader, int32_t source, int32_t shard, int64_t samples)
{
    for (; reader->taken < reader->issued; reader->taken++) wait_for(reader, place_of(reader, reader->taken));
    reader->source = source;
    reader->shard = shard;
    reader->samples = samples;
    reader->issued = reader->taken = 0;
}

Status shard_reader_next(ShardReader *reader, const Candidate **out)
{
    Status status = STATUS_OK;
    *out = NULL;
    while (reader->issued < reader->samples && reader->issued < reader->taken + reader->count) {
        Candidate *c = place_of(reader, reader->issued);
        c->source = reader->source;
        c->shard = reader->shard;
        c->first = 0;
        c->count = reader->samples;
        c->sample = reader->issued++;
        c->done = false;
        (void)queue_push(reader->jobs, c);
    }
    if (reader->taken == reader->samples) return STATUS_END;
    Candidate *c = place_of(reader, reader->taken);
    wait_for(reader, c);
    reader->taken++;
    if (c->fatal != STATUS_OK) FAIL(c->fatal, "%s", c->detail);
    *out = c;
fail:
    return status;
}
