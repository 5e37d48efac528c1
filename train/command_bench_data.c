/* vasily bench data: how fast samples come, where the time goes, and how that compares with the bare libraries. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/file.h"
#include "base/json.h"
#include "base/log.h"
#include "data/bare_loop.h"
#include "data/loader.h"
#include "train/command.h"
#include "train/frozen_data.h"
#include "train/run_config.h"

#define SLICE 0.5 /* seconds, of the loader and of the bare loop in turn */

typedef struct BenchArguments {
    const char *stage;
    double seconds;
    bool peak, json;
} BenchArguments;

typedef struct Bench {
    const BenchArguments *arguments;
    RunConfig config;
    Config *file;
    PrecomputedSpec precomputed;
    Loader *loader;
    BareLoop *bare;
    int threads, shortest_queue;
    /* of all slices */
    double seconds, cpu_seconds, waited;
    int64_t samples, bytes; /* served; read */
    double stages[CANDIDATE_STAGES];
    BareLoopResult peak;
    LoaderStats at_end;
} Bench;

static double process_clock(void)
{
    struct timespec now;
    return clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now) == 0 ? (double)now.tv_sec + 1e-9 * (double)now.tv_nsec : 0;
}

/* ---- measuring ---- */

static Status take_batch(Bench *bench)
{
    Status status = STATUS_OK;
    const Batch *batch;
    status = loader_next(bench->loader, &batch);
    if (status == STATUS_END)
        FAIL(ERR_USAGE, "the sources end (repeat: false) before the time is over; set --seconds lower or repeat: true");
    TRY(status);
    loader_release(bench->loader, batch);
fail:
    return status;
}

/* What was made while nobody asked goes first: the ring, and the samples under way. */
static Status take_stock(Bench *bench)
{
    Status status = STATUS_OK;
    for (int i = 0; i < bench->shortest_queue; i++) TRY(take_batch(bench));
fail:
    return status;
}

static Status loader_slice(Bench *bench, double seconds)
{
    Status status = STATUS_OK;
    LoaderStats before, after;
    const int64_t count = bench->config.train.global_batch;
    TRY(take_stock(bench));
    loader_stats(bench->loader, &before);
    double start = clock_seconds(), cpu = process_clock(), now;
    do {
        TRY(take_batch(bench));
        bench->samples += count;
        now = clock_seconds();
    } while (now - start < seconds);
    bench->seconds += now - start;
    bench->cpu_seconds += process_clock() - cpu;
    loader_stats(bench->loader, &after);
    bench->bytes += after.bytes_read - before.bytes_read;
    bench->waited += after.seconds_waited - before.seconds_waited;
    for (int s = 0; s < CANDIDATE_STAGES; s++) bench->stages[s] += after.stage_seconds[s] - before.stage_seconds[s];
fail:
    return status;
}

/* Until the loader has filled its ring and sleeps: the bare loop wants the processors for itself. */
static void let_rest(void)
{
    const struct timespec pause = {.tv_nsec = 20 * 1000 * 1000};
    double start = clock_seconds(), before, now = process_clock();
    do {
        before = now;
        nanosleep(&pause, NULL);
        now = process_clock();
    } while (now - before > 2e-3 && clock_seconds() - start < 30);
}

static void show_progress(const Bench *bench)
{
    char line[160];
    snprintf(line, sizeof line, "%.0f of %.0f s, %.0f samples/s", bench->seconds, bench->arguments->seconds,
             bench->seconds > 0 ? (double)bench->samples / bench->seconds : 0);
    log_live_line(line);
}

static Status open_bare_loop(Bench *bench)
{
    Status status = STATUS_OK;
    const size_t count = bench->config.data.sources.count;
    double *shares = mem_alloc_array(count, sizeof *shares);
    if (!shares) FAIL(ERR_MEMORY, "out of memory");
    for (size_t s = 0; s < count; s++) {
        LoaderSourceStats stats;
        loader_source_stats(bench->loader, (int32_t)s, &stats);
        shares[s] = (double)stats.accepted;
    }
    TRY(bare_loop_create(&bench->config.data, (int)bench->config.train.resolution, shares, &bench->bare));
fail:
    free(shares);
    return status;
}

static Status measure(Bench *bench)
{
    Status status = STATUS_OK;
    const double wanted = bench->arguments->seconds;
    TRY(take_stock(bench));
    if (bench->arguments->peak) TRY(open_bare_loop(bench));
    while (bench->seconds < wanted) {
        TRY(loader_slice(bench, wanted - bench->seconds < SLICE ? wanted - bench->seconds : SLICE));
        if (bench->bare) {
            let_rest();
            TRY(bare_loop_run(bench->bare, bench->threads, SLICE, &bench->peak));
        }
        show_progress(bench);
    }
    loader_stats(bench->loader, &bench->at_end);
fail:
    log_live_line(NULL);
    return status;
}

static Status set_up(Bench *bench)
{
    Status status = STATUS_OK;
    RunConfig *run = &bench->config;
    const int64_t count = run->train.global_batch;
    TRY(data_config_check(bench->file, "data", &run->data));
    TRY(frozen_spec_create(run, NULL, false, &bench->precomputed));
    const bool *wanted = bench->precomputed.wanted;
    if (bench->arguments->peak && wanted[PRECOMPUTED_LATENTS])
        FAIL(ERR_USAGE, "--peak: latents are precomputed, so that no picture is decoded that could be compared; set "
                        "frozen.latents=inline");
    bench->threads = loader_threads(&run->data);
    /* The ring, one being filled, and at least as many samples as the loader has under way. */
    bench->shortest_queue = (int)(run->data.prefetch_batches + 2 + (8 * bench->threads + 64) / count);
    TRY(loader_open(&run->data,
                    &(LoaderOptions){.seed = (uint64_t)run->seed,
                                     .resolution = (int)run->train.resolution,
                                     .global_batch = count,
                                     .world = 1,
                                     .precomputed = wanted[PRECOMPUTED_LATENTS] || wanted[PRECOMPUTED_TEXT]
                                                        ? &bench->precomputed
                                                        : NULL},
                    &bench->loader));
fail:
    return status;
}

static void tear_down(Bench *bench)
{
    loader_close(bench->loader);
    bare_loop_free(bench->bare);
    precomputed_spec_free(&bench->precomputed);
    config_free(bench->file);
}

/* ---- results ---- */

static const char *const stage_names[CANDIDATE_STAGES] = {
    [STAGE_READ] = "read", [STAGE_TEXT] = "text", [STAGE_DECODE] = "decode", [STAGE_RESIZE] = "resize"};

/* Samples a second of the processor's time: what other programs take does not count. */
static double per_cpu(const Bench *bench)
{
    return bench->cpu_seconds > 0 ? (double)bench->samples / bench->cpu_seconds : 0;
}

static double bare_rate(const Bench *bench)
{
    return bench->peak.seconds > 0 ? (double)bench->peak.pictures / bench->peak.seconds * bench->threads : 0;
}

static double bare_per_cpu(const Bench *bench)
{
    return bench->peak.cpu_seconds > 0 ? (double)bench->peak.pictures / bench->peak.cpu_seconds : 0;
}

static void print_sources(Bench *bench)
{
    for (size_t s = 0; s < bench->config.data.sources.count; s++) {
        const char *name = data_config_source(&bench->config.data, s)->name;
        LoaderSourceStats stats;
        loader_source_stats(bench->loader, (int32_t)s, &stats);
        printf("  source %-20s %10" PRId64 " accepted, %" PRId64 " passed over, %.1f MB read\n", name, stats.accepted,
               stats.passed_over, 1e-6 * (double)stats.bytes_read);
    }
}

static Status print_table(Bench *bench)
{
    Status status = STATUS_OK;
    StrBuf reasons = {0};
    const double rate = (double)bench->samples / bench->seconds;
    const double all = bench->seconds * bench->threads;
    double other = all;
    TRY(bad_samples_format(&bench->at_end.bad, &reasons));
    printf("%" PRId64 " samples in %.1f s: %.1f samples/s, %.1f a thread of %d; %.1f a second of processor time; "
           "%.1f MB/s read\n",
           bench->samples, bench->seconds, rate, rate / bench->threads, bench->threads, per_cpu(bench),
           1e-6 * (double)bench->bytes / bench->seconds);
    printf("waited for %.1f%% of the time; passed over: %s\n", 100 * bench->waited / bench->seconds, reasons.data);
    print_sources(bench);
    printf("the decode threads' time:\n");
    for (int s = 0; s < CANDIDATE_STAGES; s++) {
        printf("  %-8s %8.2f s  %5.1f%%\n", stage_names[s], bench->stages[s], 100 * bench->stages[s] / all);
        other -= bench->stages[s];
    }
    printf("  %-8s %8.2f s  %5.1f%%\n", "other", other, 100 * other / all);
    if (bench->bare) {
        printf("bare loop over %d pictures in turn with it: %.1f pictures/s, %.1f a thread; %.1f a second of processor "
               "time\n",
               bare_loop_pictures(bench->bare), bare_rate(bench), bare_rate(bench) / bench->threads,
               bare_per_cpu(bench));
        printf("the loader reaches %.1f%% of it by the clock, %.1f%% by processor time\n",
               100 * rate / bare_rate(bench), 100 * per_cpu(bench) / bare_per_cpu(bench));
    }
fail:
    strbuf_free(&reasons);
    return status;
}

static Status print_json(Bench *bench)
{
    Status status = STATUS_OK;
    StrBuf text = {0};
    JsonWriter w;
    json_begin(&w, &text);
    json_object(&w, NULL);
    json_int(&w, "threads", bench->threads);
    json_int(&w, "samples", bench->samples);
    json_float(&w, "seconds", bench->seconds);
    json_float(&w, "cpu_seconds", bench->cpu_seconds);
    json_float(&w, "samples_per_second", (double)bench->samples / bench->seconds);
    json_float(&w, "samples_per_cpu_second", per_cpu(bench));
    json_float(&w, "bytes_per_second", (double)bench->bytes / bench->seconds);
    json_float(&w, "seconds_waited", bench->waited);
    json_object(&w, "stages");
    for (int s = 0; s < CANDIDATE_STAGES; s++) json_float(&w, stage_names[s], bench->stages[s]);
    json_end_object(&w);
    json_object(&w, "passed_over");
    for (int r = SAMPLE_ACCEPTED + 1; r < SAMPLE_REASON_COUNT; r++)
        if (bench->at_end.bad.counts[r]) json_int(&w, sample_reason_name((SampleReason)r), bench->at_end.bad.counts[r]);
    json_end_object(&w);
    json_object(&w, "sources");
    for (size_t s = 0; s < bench->config.data.sources.count; s++) {
        LoaderSourceStats stats;
        loader_source_stats(bench->loader, (int32_t)s, &stats);
        json_object(&w, data_config_source(&bench->config.data, s)->name);
        json_int(&w, "accepted", stats.accepted);
        json_int(&w, "passed_over", stats.passed_over);
        json_int(&w, "bytes", stats.bytes_read);
        json_end_object(&w);
    }
    json_end_object(&w);
    if (bench->bare) {
        json_int(&w, "bare_pictures", bare_loop_pictures(bench->bare));
        json_float(&w, "bare_per_second", bare_rate(bench));
        json_float(&w, "bare_per_cpu_second", bare_per_cpu(bench));
    }
    json_end_object(&w);
    TRY(strbuf_append(&text, "\n", 1));
    fputs(text.data, stdout);
fail:
    strbuf_free(&text);
    return status;
}

static Status run(CommandCall *call)
{
    Status status = STATUS_OK;
    const char *const *overrides;
    size_t override_count;
    Bench *bench = arena_alloc(call->arena, sizeof *bench);
    if (!bench) return ERR_MEMORY;
    bench->arguments = call->options;
    TRY(command_arguments(call, 1, &overrides, &override_count));
    TRY(run_config_load_one(call->positional.items[0], overrides, override_count, bench->arguments->stage,
                            &bench->config, &bench->file));
    TRY(set_up(bench));
    TRY(measure(bench));
    TRY(bench->arguments->json ? print_json(bench) : print_table(bench));
fail:
    tear_down(bench);
    return status;
}

static const ArgSpec options[] = {
    {"stage", ARG_TEXT, offsetof(BenchArguments, stage), "NAME",
     "as this stage of the config has it (default: what stands outside its stages)", 0, 0, NULL},
    {"seconds", ARG_FLOAT, offsetof(BenchArguments, seconds), "S", "how long (default 10)", 0.1, 1e6, NULL},
    {"peak", ARG_FLAG, offsetof(BenchArguments, peak), NULL,
     "in turn with the bare libraries on pictures of the same shards, and how near the loader comes to that", 0, 0,
     NULL},
    {"json", ARG_FLAG, offsetof(BenchArguments, json), NULL, "one JSON object instead of the table", 0, 0, NULL},
};
static const BenchArguments defaults = {.seconds = 10};

const Command command_bench_data = {
    .name = "bench data",
    .summary = "how fast samples come, and where the time goes",
    .usage = "CONFIG [key.path=value ...] [--seconds S] [--peak] [--json]",
    .details =
        "Opens the loader of CONFIG as training on one rank does, tokenizers included, and takes batches as fast as\n"
        "they come. Reading, texts, decoding and resizing are of the decode threads (data.decode_threads), by the\n"
        "clock; `other` is what is left of their time: sleeping, and whatever kept them from the processors.\n"
        "--peak alternates, half a second each, with as many threads that do nothing but decode in full and resize up\n"
        "to 1024 pictures in memory, so that both see the same machine. On one that other programs use, too, the\n"
        "ratio by processor time is the steadier one.\n",
    .table = COMMAND_TABLE(options),
    .options_size = sizeof(BenchArguments),
    .defaults = &defaults,
    .run = run,
};
