/* vasily data show: what is read of every sample, one JSON object a line. */
#include <stdio.h>
#include <stdlib.h>

#include "base/file.h"
#include "base/hash.h"
#include "base/json.h"
#include "base/log.h"
#include "data/loader.h"
#include "data/picture.h"
#include "data/picture_size.h"
#include "data/shard_reader.h"
#include "train/data_arguments.h"

#define WINDOWS 4

typedef struct ShowArguments {
    const char *stage;
    int64_t samples;
} ShowArguments;

typedef struct Show {
    const DataConfig *config;
    ShardStore *store;
    ShardReader *reader;
    int64_t left; /* samples */
    bool lost;    /* some could not be read */
    uint8_t *bytes;
    size_t capacity;
    StrBuf line;
} Show;

static void write_captions(JsonWriter *w, const Candidate *c)
{
    json_array(w, "captions");
    for (size_t i = 0; i < c->caption_count; i++) {
        json_object(w, NULL);
        json_string(w, "language", c->text.data + c->captions[i].language);
        json_string(w, "text", c->text.data + c->captions[i].text);
        json_end_object(w);
    }
    json_end_array(w);
}

/* Suffix, bytes, their hash; of a picture its format and size. */
static Status write_member(Show *show, JsonWriter *w, const ShardWindow *window, const SampleMember *member)
{
    Status status = STATUS_OK;
    int64_t width, height;
    char digits[33];
    json_object(w, NULL);
    json_string(w, "suffix", sample_suffix(&window->index->table, member));
    json_int(w, "bytes", member->size);
    if (member->size <= show->config->limits.member_bytes) {
        TRY(mem_grow(&show->bytes, &show->capacity, (size_t)member->size + SHARD_HEADER, 1));
        if (shard_window_read(show->store, window, member, show->bytes) == STATUS_OK) {
            const uint8_t *data = show->bytes + SHARD_HEADER;
            size_t size = (size_t)member->size;
            PictureType type = picture_sniff(data, size);
            hash_format(hash_memory(data, size), digits);
            json_string(w, "xxh3_128", digits);
            if (type != PICTURE_UNKNOWN) json_string(w, "picture", picture_type_name(type));
            if (type != PICTURE_UNKNOWN && picture_read_size(data, size, &width, &height) == STATUS_OK) {
                json_int(w, "width", width);
                json_int(w, "height", height);
            }
        }
    }
    json_end_object(w);
fail:
    return status;
}

static Status write_members(Show *show, JsonWriter *w, const Candidate *c)
{
    Status status = STATUS_OK;
    const ShardWindow *window = NULL;
    json_array(w, "members");
    if (shard_store_acquire(show->store, c->source, c->shard, c->first, c->count, &window) == STATUS_OK) {
        const SampleTable *table = &window->index->table;
        int64_t at = c->sample - window->first;
        const Sample *sample = at < (int64_t)table->sample_count ? &table->samples[at] : NULL;
        for (uint32_t m = 0; sample && m < sample->member_count; m++)
            TRY(write_member(show, w, window, &table->members[sample->first_member + m]));
    }
    json_end_array(w);
fail:
    if (window) shard_store_release(show->store, window);
    return status;
}

static Status show_sample(Show *show, const Candidate *c)
{
    Status status = STATUS_OK;
    JsonWriter w;
    char shard[SHARD_NAME_MAX];
    shard_show(shard_store_path(show->store, c->source, c->shard), shard, sizeof shard);
    show->line.size = 0;
    json_begin(&w, &show->line);
    json_object(&w, NULL);
    json_string(&w, "key", c->key.data);
    json_string(&w, "source", data_config_source(show->config, (size_t)c->source)->name);
    json_string(&w, "shard", shard);
    json_int(&w, "sample", c->sample);
    json_string(&w, "verdict", sample_reason_name(c->reason));
    if (c->reason != SAMPLE_ACCEPTED) json_string(&w, "detail", c->detail);
    write_captions(&w, c);
    TRY(write_members(show, &w, c));
    json_end_object(&w);
    TRY(strbuf_append(&show->line, "\n", 1));
    if (fwrite(show->line.data, 1, show->line.size, stdout) != show->line.size)
        FAIL(ERR_IO, "the output cannot be written; is the disk full, or has its reader ended?");
fail:
    return status;
}

/* A shard that a list knows but that is not there: said once, not for each of its samples. */
static bool is_absent(Show *show, int32_t source, int32_t shard)
{
    const char *path = shard_store_path(show->store, source, shard);
    if (shard_kind(path) != SHARD_LOCAL || file_check_readable(path) == STATUS_OK) return false;
    if (shard_store_samples(show->store, source)[shard] > 0) /* else it was found out when they were counted */
        log_warn("passed over, a shard that cannot be read: %s", status_message());
    show->lost = true;
    return true;
}

static Status show_source(Show *show, int32_t source)
{
    Status status = STATUS_OK;
    const int64_t *samples = shard_store_samples(show->store, source);
    for (int32_t shard = 0; shard < shard_store_count(show->store, source) && show->left > 0; shard++) {
        const Candidate *c;
        if (is_absent(show, source, shard)) continue;
        shard_reader_begin(show->reader, source, shard, samples[shard] < show->left ? samples[shard] : show->left);
        while ((status = shard_reader_next(show->reader, &c)) == STATUS_OK) {
            show->left--;
            show->lost = show->lost || c->reason == SAMPLE_READ_ERROR;
            TRY(show_sample(show, c));
        }
        if (status != STATUS_END) FAIL_WITH(status);
    }
    return STATUS_OK;
fail:
    return status;
}

static Status run(CommandCall *call)
{
    Status status = STATUS_OK;
    const ShowArguments *arguments = call->options;
    RunConfig config = {0};
    Config *file = NULL;
    BadSamples bad = {0};
    Show show = {.config = &config.data, .left = arguments->samples};
    TRY(data_arguments_load(call, arguments->stage, &config, &file));
    int resolution = config.train.resolution > 0 ? (int)config.train.resolution : 1;
    ShardStoreOptions options = {.config = &config.data, .threads = 1, .windows = WINDOWS, .pass_over = true};
    TRY(shard_store_open(&options, &bad, &show.store));
    TRY(shard_reader_open(&config.data, show.store, resolution, false, &show.reader));
    for (size_t s = 0; s < config.data.sources.count; s++) TRY(show_source(&show, (int32_t)s));
    if (show.lost || bad.counts[SHARD_BROKEN] > 0) call->exit_code = status_exit_code(ERR_IO);
fail:
    shard_reader_close(show.reader);
    shard_store_close(show.store);
    strbuf_free(&show.line);
    free(show.bytes);
    config_free(file);
    return status;
}

static const ArgSpec options[] = {
    {"stage", ARG_TEXT, offsetof(ShowArguments, stage), "NAME",
     "as this stage of the config has it (default: what stands outside its stages)", 0, 0, NULL},
    {"samples", ARG_INT, offsetof(ShowArguments, samples), "N", "stop after N samples (default: all)", 1, 1e15, NULL},
};
static const ShowArguments defaults = {.samples = INT64_MAX};

const Command command_data_show = {
    .name = "data show",
    .summary = "print what is read of every sample of the shards",
    .usage = DATA_ARGUMENTS " [--samples N]",
    .details = "One JSON object a line, in the order of the shards: key, captions by language, whether training would "
               "take the\n"
               "sample or why not, and its members with sizes and XXH3-128 hashes. Pictures are decoded for the "
               "verdict. With\n"
               "shards in place of a config no filter leaves anything out. Shards that are damaged or cannot be "
               "read are reported\n"
               "and passed over; the exit code is then 3.\n",
    .table = COMMAND_TABLE(options),
    .options_size = sizeof(ShowArguments),
    .defaults = &defaults,
    .run = run,
};
