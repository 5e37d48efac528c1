#include "data/bare_loop.h"

#include <pthread.h>
#include <stdio.h>
#include <setjmp.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <jpeglib.h>

#include "base/arena.h"
#include "base/file.h"
#include "data/candidate_inside.h"
#include "data/loader.h"
#include "data/picture.h"
#include "data/resize.h"
#include "data/shard_store.h"

enum { MAX_SHARDS = 16 }; /* of a source, that pictures are taken from */
#define MAX_SIDE 4096     /* larger pictures are left out: the loop's buffers are as large as its largest picture */

typedef struct BarePicture {
    uint8_t *data;
    size_t size;
} BarePicture;

struct BareLoop {
    int resolution, count;
    int64_t bytes;
    atomic_uint next; /* picture, counted on from run to run: all of them have their turn, however short a run is */
    BarePicture pictures[BARE_LOOP_MAX_PICTURES];
};

/* ---- pictures ---- */

static Status add_picture(BareLoop *loop, ShardStore *store, const ShardWindow *window, const SampleMember *member)
{
    Status status = STATUS_OK;
    const PictureLimits limits = {.max_pixels = (int64_t)MAX_SIDE * MAX_SIDE, .min_side = 1};
    Picture picture = {0};
    uint8_t *buffer = mem_alloc_array(SHARD_HEADER + (size_t)member->size, 1);
    if (!buffer) FAIL(ERR_MEMORY, "out of memory for pictures");
    if (shard_window_read(store, window, member, buffer) != STATUS_OK) goto fail; /* the loader reports such things */
    memmove(buffer, buffer + SHARD_HEADER, (size_t)member->size);
    if (picture_decode(buffer, (size_t)member->size, &limits, &picture) != STATUS_OK || picture.width > MAX_SIDE ||
        picture.height > MAX_SIDE)
        goto fail;
    loop->pictures[loop->count++] = (BarePicture){buffer, (size_t)member->size};
    loop->bytes += member->size;
    buffer = NULL;
fail:
    free(buffer);
    picture_free(&picture);
    return status;
}

/* Samples of a block that `every` leaves: those at multiples of it, counted through the shard. */
static Status add_block(BareLoop *loop, const DataConfig *config, ShardStore *store, const ShardWindow *window,
                        int64_t first, int64_t every, int end)
{
    Status status = STATUS_OK;
    const SampleTable *table = &window->index->table;
    for (size_t i = (size_t)((every - first % every) % every); i < table->sample_count; i += (size_t)every) {
        const SampleMember *member = candidate_picture_member(table, &table->samples[i]);
        if (loop->count == end) break;
        if (!member || member->size > config->limits.member_bytes) continue;
        if (loop->bytes + member->size > BARE_LOOP_MAX_BYTES) break;
        TRY(add_picture(loop, store, window, member));
    }
fail:
    return status;
}

/* Up to `wanted` pictures, from all over the shard: neighbours in a shard are often alike, and quicker or slower to
 * decode than the rest. */
static Status add_shard(BareLoop *loop, const DataConfig *config, ShardStore *store, int32_t source, int32_t shard,
                        int wanted)
{
    Status status = STATUS_OK;
    const int64_t samples = shard_store_samples(store, source)[shard], block = config->shuffle_block;
    const int64_t every = samples > wanted ? samples / wanted : 1;
    const int end = loop->count + wanted;
    for (int64_t first = 0; first < samples && loop->count < end; first += block) {
        const ShardWindow *window;
        const int64_t count = samples - first < block ? samples - first : block;
        if (shard_store_acquire(store, source, shard, first, count, &window) != STATUS_OK) continue;
        status = add_block(loop, config, store, window, first, every, end);
        shard_store_release(store, window);
        TRY(status);
    }
fail:
    return status;
}

/* Up to `wanted` pictures of a source, from shards all over its list. */
static Status add_source(BareLoop *loop, const DataConfig *config, ShardStore *store, int32_t source, int wanted)
{
    Status status = STATUS_OK;
    const int32_t shards = shard_store_count(store, source), used = shards < MAX_SHARDS ? shards : MAX_SHARDS;
    for (int32_t k = 0; k < used && wanted > 0; k++) {
        const int before = loop->count;
        TRY(add_shard(loop, config, store, source, (int32_t)((int64_t)k * shards / used),
                      (wanted + used - k - 1) / (used - k)));
        wanted -= loop->count - before;
    }
fail:
    return status;
}

Status bare_loop_create(const DataConfig *config, int resolution, const double *shares, BareLoop **out)
{
    Status status = STATUS_OK;
    ShardStore *store = NULL;
    BadSamples bad = {0};
    double sum = 0;
    *out = NULL;
    BareLoop *loop = mem_alloc_array(1, sizeof *loop);
    if (!loop) FAIL(ERR_MEMORY, "out of memory for pictures");
    loop->resolution = resolution;
    TRY(shard_store_open(
        &(ShardStoreOptions){.config = config, .progress = true, .threads = loader_threads(config), .windows = 4}, &bad,
        &store));
    for (size_t s = 0; s < config->sources.count; s++) sum += shares[s];
    for (size_t s = 0; s < config->sources.count; s++)
        if (shares[s] > 0)
            TRY(add_source(loop, config, store, (int32_t)s,
                           (int)(shares[s] / sum * (BARE_LOOP_MAX_PICTURES - (double)config->sources.count)) + 1));
    if (loop->count == 0) FAIL(ERR_FORMAT, "no picture of the shards can be decoded");
    *out = loop;
    loop = NULL;
fail:
    shard_store_close(store);
    bare_loop_free(loop);
    return status;
}

void bare_loop_free(BareLoop *loop)
{
    if (!loop) return;
    for (int i = 0; i < loop->count; i++) free(loop->pictures[i].data);
    free(loop);
}

int bare_loop_pictures(const BareLoop *loop)
{
    return loop->count;
}

/* ---- the loop ---- */

typedef struct BareThread {
    BareLoop *loop;
    pthread_t thread;
    double seconds; /* to go on for */
    struct jpeg_decompress_struct jpeg;
    struct jpeg_error_mgr errors;
    jmp_buf jump;
    Picture picture;
    Resizer resizer;
    JSAMPROW *rows;
    uint8_t *out;
    BareLoopResult result;
    Status status;
    StatusRecord failure;
} BareThread;

static void on_error(j_common_ptr common)
{
    longjmp(((BareThread *)common->client_data)->jump, 1);
}

static void on_message(j_common_ptr common, int level)
{
    (void)common;
    (void)level;
}

static bool decode_jpeg(BareThread *t, const BarePicture *picture)
{
    if (setjmp(t->jump)) return false;
    jpeg_mem_src(&t->jpeg, picture->data, (unsigned long)picture->size);
    jpeg_read_header(&t->jpeg, TRUE);
    t->jpeg.out_color_space = JCS_RGB;
    jpeg_start_decompress(&t->jpeg);
    t->picture.width = (int)t->jpeg.output_width;
    t->picture.height = (int)t->jpeg.output_height;
    for (JDIMENSION y = 0; y < t->jpeg.output_height; y++)
        t->rows[y] = t->picture.rgb + (size_t)y * t->jpeg.output_width * 3;
    while (t->jpeg.output_scanline < t->jpeg.output_height)
        jpeg_read_scanlines(&t->jpeg, t->rows + t->jpeg.output_scanline,
                            t->jpeg.output_height - t->jpeg.output_scanline);
    jpeg_finish_decompress(&t->jpeg);
    return true;
}

static Status one_picture(BareThread *t, const BarePicture *picture)
{
    Status status = STATUS_OK;
    const PictureLimits limits = {.max_pixels = (int64_t)MAX_SIDE * MAX_SIDE};
    bool done = picture_sniff(picture->data, picture->size) == PICTURE_JPEG && decode_jpeg(t, picture);
    if (!done) { /* another format, or colours that libjpeg alone does not turn into RGB */
        jpeg_abort_decompress(&t->jpeg);
        TRY(picture_decode(picture->data, picture->size, &limits, &t->picture));
    }
    TRY(resize_square(&t->resizer, t->picture.rgb, t->picture.width, t->picture.height, t->loop->resolution, t->out));
fail:
    return status;
}

static double cpu_clock(void)
{
    struct timespec now;
    return clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now) == 0 ? (double)now.tv_sec + 1e-9 * (double)now.tv_nsec : 0;
}

static void *work(void *argument)
{
    BareThread *t = argument;
    BareLoopResult *r = &t->result;
    double start = clock_seconds(), cpu = cpu_clock();
    while (t->status == STATUS_OK && r->seconds < t->seconds) {
        const unsigned next = atomic_fetch_add(&t->loop->next, 1);
        const BarePicture *picture = &t->loop->pictures[next % (unsigned)t->loop->count];
        t->status = one_picture(t, picture);
        r->pictures++;
        r->bytes += (double)picture->size;
        r->seconds = clock_seconds() - start;
    }
    r->cpu_seconds = cpu_clock() - cpu;
    if (t->status != STATUS_OK) status_save(t->status, &t->failure);
    return NULL;
}

static bool create_jpeg(BareThread *t)
{
    t->jpeg.err = jpeg_std_error(&t->errors);
    t->jpeg.client_data = t;
    t->errors.error_exit = on_error;
    t->errors.emit_message = on_message;
    if (setjmp(t->jump)) return false;
    jpeg_create_decompress(&t->jpeg);
    return true;
}

static Status open_thread(BareThread *t, BareLoop *loop, double seconds)
{
    Status status = STATUS_OK;
    if (!create_jpeg(t)) FAIL(ERR_MEMORY, "out of memory for a JPEG reader");
    t->loop = loop;
    t->seconds = seconds;
    t->rows = mem_alloc_array(MAX_SIDE, sizeof t->rows[0]);
    t->out = mem_alloc_array((size_t)loop->resolution * (size_t)loop->resolution, 3);
    if (!t->rows || !t->out) FAIL(ERR_MEMORY, "out of memory for pictures");
    TRY(picture_make_room(&t->picture, MAX_SIDE, MAX_SIDE, 3)); /* its pages are taken as they are used */
fail:
    return status;
}

static void close_thread(BareThread *t)
{
    picture_free(&t->picture);
    resizer_free(&t->resizer);
    free(t->rows);
    free(t->out);
}

Status bare_loop_run(BareLoop *loop, int threads, double seconds, BareLoopResult *out)
{
    Status status = STATUS_OK;
    int opened = 0, started = 0;
    BareThread *all = mem_alloc_array((size_t)threads, sizeof *all);
    if (!all) FAIL(ERR_MEMORY, "out of memory for threads");
    for (; opened < threads; opened++) {
        status = open_thread(&all[opened], loop, seconds);
        if (status != STATUS_OK) {
            opened++;
            goto fail;
        }
    }
    for (; started < threads; started++)
        if (pthread_create(&all[started].thread, NULL, work, &all[started]) != 0)
            FAIL(ERR_MEMORY, "cannot start thread %d of the bare loop", started);
fail:
    for (int i = 0; i < started; i++) pthread_join(all[i].thread, NULL);
    for (int i = 0; i < opened; i++) {
        BareThread *t = &all[i];
        if (status == STATUS_OK && t->status != STATUS_OK) status = status_restore(&t->failure);
        out->pictures += t->result.pictures;
        out->seconds += t->result.seconds;
        out->cpu_seconds += t->result.cpu_seconds;
        out->bytes += t->result.bytes;
        jpeg_destroy_decompress(&t->jpeg);
        close_thread(t);
    }
    free(all);
    if (out->seconds > 0) out->rate = (double)out->pictures / out->seconds * threads;
    return status;
}
