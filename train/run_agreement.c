#include "train/run_agreement.h"

#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <link.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/file.h"
#include "base/hash.h"
#include "base/log.h"
#include "data/shard_list.h"
#include "train/config_difference.h"
#include "train/frozen_data.h"
#include "train/versions.h"

/* ---- the program ---- */

static Status add_file_hash(Agreement *facts, const char *key, const char *path)
{
    Status status = STATUS_OK;
    Hash128 hash;
    int64_t size;
    char digits[33];
    if (hash_file(path, &hash, &size) != STATUS_OK)
        return agreement_add(facts, key, "unreadable: %s", status_message());
    hash_format(hash, digits);
    TRY(agreement_add(facts, key, "%s (%" PRId64 " bytes)", digits, size));
fail:
    return status;
}

/* Versions are lines of text; the last tells of the processor, which may differ. */
static Status add_libraries(Agreement *facts)
{
    Status status = STATUS_OK;
    StrBuf text = {0};
    char key[32];
    int line = 0;
    TRY(versions_describe(&text));
    for (char *at = text.data, *end; at && *at; at = end) {
        end = strchrnul(at, '\n');
        if (*end) *end++ = 0;
        if (strncmp(at, "CPU:", 4) == 0) continue;
        snprintf(key, sizeof key, "libraries (line %d)", ++line);
        TRY(agreement_add(facts, key, "%s", at));
    }
fail:
    strbuf_free(&text);
    return status;
}

/* What changes numbers, or the order in which ranks talk to each other, and is in no config. */
static const char *const ENVIRONMENT[] = {"VASILY_ISA",
                                          "VASILY_WINOGRAD",
                                          "DNNL_MAX_CPU_ISA",
                                          "ONEDNN_MAX_CPU_ISA",
                                          "ONEDNN_DEFAULT_FPMATH_MODE",
                                          "NVIDIA_TF32_OVERRIDE",
                                          "CUBLAS_WORKSPACE_CONFIG",
                                          "NCCL_ALGO",
                                          "NCCL_PROTO",
                                          "NCCL_BUFFSIZE",
                                          "NCCL_NTHREADS",
                                          "NCCL_MIN_NCHANNELS",
                                          "NCCL_MAX_NCHANNELS",
                                          "NCCL_NVLS_ENABLE",
                                          "NCCL_COLLNET_ENABLE"};

static Status add_environment(Agreement *facts)
{
    Status status = STATUS_OK;
    char key[64];
    for (size_t i = 0; i < sizeof ENVIRONMENT / sizeof ENVIRONMENT[0]; i++) {
        const char *value = getenv(ENVIRONMENT[i]);
        snprintf(key, sizeof key, "environment variable %s", ENVIRONMENT[i]);
        TRY(agreement_add(facts, key, "%s", value ? value : "(unset)"));
    }
fail:
    return status;
}

/* ---- the config ---- */

/* How a process uses its own machine: the machines of a job may have more or fewer processors, and folders of their
 * own. None of these changes what is computed, but for rounding. */
static const char *const OWN_KEYS[] = {"device.threads", "device.cache", "data.decode_threads",
                                       "data.prefetch_batches"};

/* Of a stage's own keys likewise: "stages[1].data.decode_threads". */
static bool is_own(const char *key)
{
    const char *stage_end = strncmp(key, "stages[", 7) == 0 ? strstr(key, "].") : NULL;
    if (stage_end) key = stage_end + 2;
    for (size_t i = 0; i < sizeof OWN_KEYS / sizeof OWN_KEYS[0]; i++)
        if (strcmp(key, OWN_KEYS[i]) == 0) return true;
    return false;
}

static Status add_config(Agreement *facts, const RunConfig *run)
{
    Status status = STATUS_OK;
    StrBuf yaml = {0};
    ConfigWalk walk;
    ConfigLine line;
    TRY(config_dump(&RUN_CONFIG_SCHEMA, run, &yaml));
    config_walk_begin(&walk, yaml.data);
    while (config_walk_next(&walk, &line))
        if (!is_own(line.key)) TRY(agreement_add(facts, line.key, "%.*s", (int)line.value_size, line.value));
fail:
    strbuf_free(&yaml);
    return status;
}

/* ---- shards ---- */

/* Files of one kind of one source: how many are there, their size, and a hash of names and sizes in their order. */
typedef struct Files {
    int64_t listed, present, bytes;
    HashStream *hash;
} Files;

static void add_file(Files *files, const char *path)
{
    char text[64];
    struct stat info;
    const char *slash = strrchr(path, '/'), *name = slash ? slash + 1 : path;
    bool there = stat(path, &info) == 0;
    files->listed++;
    files->present += there;
    files->bytes += there ? (int64_t)info.st_size : 0;
    int length = snprintf(text, sizeof text, "/%" PRId64 "\n", there ? (int64_t)info.st_size : -1);
    hash_stream_add(files->hash, name, strlen(name));
    hash_stream_add(files->hash, text, (size_t)length);
}

static Status add_files(Agreement *facts, const char *key, const Files *files)
{
    Status status = STATUS_OK;
    char digits[33], absent[64] = "";
    hash_format(hash_stream_value(files->hash), digits);
    if (files->present < files->listed)
        snprintf(absent, sizeof absent, " (%" PRId64 " absent)", files->listed - files->present);
    TRY(agreement_add(facts, key, "%" PRId64 " file%s%s, %" PRId64 " bytes, fingerprint %s", files->listed,
                      files->listed == 1 ? "" : "s", absent, files->bytes, digits));
fail:
    return status;
}

/* One kind of a source's files: the shards themselves (kind -1), or what is precomputed of them. */
static Status add_kind(Agreement *facts, const SourceConfig *source, const PrecomputedSpec *spec, const ShardList *list,
                       int kind)
{
    Status status = STATUS_OK;
    char path[PATH_MAX], key[128];
    Files files = {0};
    TRY(hash_stream_create(&files.hash));
    for (size_t i = 0; i < list->count; i++) {
        if (kind < 0) {
            add_file(&files, list->paths[i]);
            continue;
        }
        TRY(precomputed_path(spec, (PrecomputedKind)kind, source->name, list->paths[i], path));
        add_file(&files, path);
    }
    if (kind < 0)
        snprintf(key, sizeof key, "shards of data source %.60s", source->name);
    else
        snprintf(key, sizeof key, "precomputed %s of data source %.60s", PRECOMPUTED_KIND_WORDS[kind], source->name);
    TRY(add_files(facts, key, &files));
fail:
    hash_stream_free(files.hash);
    return status;
}

/* What is wrong with the shards on all ranks alike, the loader says later. */
static Status add_source(Agreement *facts, const SourceConfig *source, const PrecomputedSpec *spec)
{
    Status status = STATUS_OK;
    char key[128];
    ShardList list = {0};
    if (frozen_list_shards(source, spec, &list) != STATUS_OK) {
        snprintf(key, sizeof key, "shards of data source %.60s", source->name);
        TRY(agreement_add(facts, key, "not to be listed: %s", status_message()));
        goto fail;
    }
    if (frozen_reads_shards(spec)) TRY(add_kind(facts, source, spec, &list, -1));
    for (int kind = 0; kind < PRECOMPUTED_KINDS; kind++)
        if (spec->wanted[kind]) TRY(add_kind(facts, source, spec, &list, kind));
fail:
    shard_list_free(&list);
    return status;
}

/* ---- tokenizers and frozen weights ---- */

enum { SAMPLE_BYTES = 4 << 20 };

/* Gigabytes are not read for this: the first and last bytes, which are the whole of a tokenizer and where weight files
 * keep their lists of tensors. */
static void sample_file(const char *path, HashStream *hash)
{
    char *buffer = mem_alloc_array(SAMPLE_BYTES, 1);
    struct stat info;
    int fd = buffer ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (fd >= 0 && fstat(fd, &info) == 0) {
        const off_t size = info.st_size, tail = size > SAMPLE_BYTES ? size - SAMPLE_BYTES : 0;
        const off_t places[] = {0, tail};
        for (int i = 0; i < 2; i++) {
            ssize_t got = pread(fd, buffer, SAMPLE_BYTES, places[i]);
            if (got > 0) hash_stream_add(hash, buffer, (size_t)got);
        }
    }
    if (fd >= 0) close(fd);
    free(buffer);
}

/* A file, or a folder's files without those in folders below. */
static Status add_weights(Agreement *facts, const char *key, const char *path)
{
    Status status = STATUS_OK;
    char **names = NULL, inside[PATH_MAX];
    size_t count = 0;
    Files files = {0};
    if (!path[0]) return STATUS_OK;
    TRY(hash_stream_create(&files.hash));
    if (!file_is_dir(path)) {
        add_file(&files, path);
        sample_file(path, files.hash);
    } else if (file_list(path, &names, &count) == STATUS_OK) {
        for (size_t i = 0; i < count; i++) {
            if (names[i][0] == '.' || path_join(inside, sizeof inside, path, names[i]) || file_is_dir(inside)) continue;
            add_file(&files, inside);
            sample_file(inside, files.hash);
        }
    }
    TRY(add_files(facts, key, &files));
fail:
    file_free_list(names, count);
    hash_stream_free(files.hash);
    return status;
}

/* Of the networks that this command runs on every rank: precomputing those whose outputs are wanted, training the
 * others (with precomputed outputs only rank 0 needs them, to draw with). */
static Status add_frozen_files(Agreement *facts, const RunConfig *run, bool precomputing)
{
    Status status = STATUS_OK;
    const ModelConfig *model = &run->model;
    const int32_t here = precomputing ? FROZEN_PRECOMPUTED : FROZEN_INLINE;
    if (run->frozen.text == here) {
        TRY(add_weights(facts, "file of data.tokenizer1.model", run->data.tokenizer1.model));
        TRY(add_weights(facts, "file of data.tokenizer2.model", run->data.tokenizer2.model));
        TRY(add_weights(facts, "file of model.text_encoder1.weights", model->text_encoder1.weights));
        TRY(add_weights(facts, "file of model.text_encoder2.weights", model->text_encoder2.weights));
    }
    if (run->frozen.latents == here && model->autoencoder.kind == AUTOENCODER_KL)
        TRY(add_weights(facts, "file of model.autoencoder.weights", model->autoencoder.weights));
fail:
    return status;
}

/* ---- all together ---- */

static const char PROBLEM[] = "the ranks are not of one run, so none was begun";
static const char REMEDY[] = "Start every rank with the same program, config, arguments and files; where machines keep "
                             "copies of their own, copy them anew.";

Status run_agreement_check(const RunConfig *run, const char *command, Comm *comm)
{
    Status status = STATUS_OK;
    Agreement facts = {0};
    if (comm_world(comm) == 1) return STATUS_OK;
    TRY(add_file_hash(&facts, "program", "/proc/self/exe"));
    TRY(add_libraries(&facts));
    TRY(agreement_add(&facts, "command", "%s", command));
    TRY(add_environment(&facts));
    TRY(add_config(&facts, run));
    TRY(agreement_compare(&facts, comm, PROBLEM, REMEDY));
fail:
    agreement_free(&facts);
    return status;
}

Status run_agreement_check_files(const RunConfig *run, bool precomputing, Comm *comm)
{
    Status status = STATUS_OK;
    Agreement facts = {0};
    PrecomputedSpec spec;
    double start = clock_seconds();
    if (comm_world(comm) == 1) return STATUS_OK;
    frozen_spec_sizes(run, &spec);
    if (precomputing) memset(spec.wanted, 0, sizeof spec.wanted); /* files to be made are not read */
    for (size_t s = 0; s < run->data.sources.count; s++)
        TRY(add_source(&facts, data_config_source(&run->data, s), &spec));
    TRY(add_frozen_files(&facts, run, precomputing));
    TRY(agreement_compare(&facts, comm, PROBLEM, REMEDY));
    log_debug("%d ranks agree on what they train (%.2f s)", comm_world(comm), clock_seconds() - start);
fail:
    agreement_free(&facts);
    return status;
}

/* ---- devices ---- */

typedef struct PluginSearch {
    char path[PATH_MAX];
} PluginSearch;

static int find_plugin(struct dl_phdr_info *info, size_t size, void *context)
{
    PluginSearch *search = context;
    (void)size;
    if (!info->dlpi_name || !strstr(info->dlpi_name, "libvasily_cuda")) return 0;
    snprintf(search->path, sizeof search->path, "%s", info->dlpi_name);
    return 1;
}

Status run_agreement_check_device(const Backend *backend, Dtype compute, Comm *comm)
{
    Status status = STATUS_OK;
    Agreement must = {0}, may = {0};
    PluginSearch plugin = {""};
    char text[512];
    if (comm_world(comm) == 1) return STATUS_OK;
    TRY(agreement_add(&must, "device", "%s", backend->name));
    TRY(agreement_add(&must, "arithmetic", "%s", dtype_name(compute)));
    if (backend->device && dl_iterate_phdr(find_plugin, &plugin))
        TRY(add_file_hash(&must, "libvasily_cuda.so", plugin.path));
    if (backend->device && backend->device->collectives)
        TRY(agreement_add(&must, "collectives", "%s", backend->device->collectives->version()));
    TRY(agreement_compare(
        &must, comm, "the ranks do not compute alike",
        "device.name and model.precision say what all of them shall use; `vasily device` says on each "
        "machine what there is and what is missing."));
    backend_describe(backend, text, sizeof text);
    TRY(agreement_add(&may, "device", "%s", text));
    status = agreement_compare(&may, comm, "the ranks compute on unlike devices",
                               "The same run on other machines is then equal up to rounding, not to the bit.");
    if (status == ERR_MISMATCH) {
        if (comm_rank(comm) == 0) log_warn("%s", status_message());
        status = STATUS_OK;
    }
fail:
    agreement_free(&must);
    agreement_free(&may);
    return status;
}
