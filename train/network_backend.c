/* What a run computes on: the processor with its share of the cores, a GPU, or the description of one. */
#include <limits.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/arena.h"
#include "base/file.h"
#include "base/hash.h"
#include "train/network.h"

/* The processors this process may use, divided by the ranks of this machine that may use the same ones: a launcher that
 * binds has divided already. */
static Status share_of_processors(Comm *comm, int32_t *threads)
{
    Status status = STATUS_OK;
    int64_t *masks = NULL;
    cpu_set_t set;
    CPU_ZERO(&set);
    int processors = sched_getaffinity(0, sizeof set, &set) ? 1 : CPU_COUNT(&set);
    int sharing = 1;
    if (comm && comm_world(comm) > 1) {
        int64_t mask = (int64_t)hash_memory(&set, sizeof set).low;
        masks = mem_alloc_array((size_t)comm_world(comm), sizeof *masks);
        if (!masks) FAIL(ERR_MEMORY, "out of memory");
        TRY(comm_all_gather(comm, &mask, sizeof mask, masks));
        int same = 0;
        for (int r = 0; r < comm_world(comm); r++) same += masks[r] == mask;
        if (same > comm_local_world(comm)) same = comm_local_world(comm);
        if (same > 1) sharing = same;
    }
    *threads = processors > sharing ? processors / sharing : 1;
fail:
    free(masks);
    return status;
}

/* device.cache as a path; "" where nothing is kept. */
static Status cache_folder(const RunConfig *run, char out[PATH_MAX])
{
    Status status = STATUS_OK;
    const char *told = run->device.cache, *user = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
    out[0] = '\0';
    if (strcmp(told, "none") == 0) return STATUS_OK;
    if (told[0]) {
        TRY(path_join(out, PATH_MAX, told, ""));
    } else if (user && user[0]) {
        TRY(path_join(out, PATH_MAX, user, "vasily"));
    } else if (home && home[0]) {
        TRY(path_join(out, PATH_MAX, home, ".cache/vasily"));
    }
fail:
    return status;
}

bool network_find_machine_file(const char *name, char out[PATH_MAX])
{
    static const char *const PLACES[] = {"", "/..", "/../.."}; /* from the program's folder */
    char program[PATH_MAX], folder[PATH_MAX + 64];
    if (snprintf(out, PATH_MAX, "configs/machines/%s", name) < PATH_MAX && file_exists(out)) return true;
    const ssize_t size = readlink("/proc/self/exe", program, sizeof program - 1);
    char *slash = size > 0 ? (program[size] = '\0', strrchr(program, '/')) : NULL;
    if (slash) *slash = '\0';
    for (size_t i = 0; slash && i < sizeof PLACES / sizeof PLACES[0]; i++) {
        snprintf(folder, sizeof folder, "%s%s/configs/machines", program, PLACES[i]);
        if (snprintf(out, PATH_MAX, "%s/%s", folder, name) < PATH_MAX && file_exists(out)) return true;
    }
    return false;
}

/* A file; or NAME of configs/machines/NAME.json. */
static Status find_machine(const char *gpu, char out[PATH_MAX])
{
    Status status = STATUS_OK;
    char name[PATH_MAX];
    if (snprintf(out, PATH_MAX, "%s", gpu) < PATH_MAX && file_exists(out) && !file_is_dir(out)) return STATUS_OK;
    if (snprintf(name, sizeof name, "%s.json", gpu) < PATH_MAX && network_find_machine_file(name, out))
        return STATUS_OK;
    FAIL(ERR_USAGE, "--gpu %s: neither a file nor one of configs/machines/ (h200, h100, a100)", gpu);
fail:
    return status;
}

Status network_open_planned_gpu(const RunConfig *run, const char *gpu, Backend **out)
{
    Status status = STATUS_OK;
    char path[PATH_MAX], cache[PATH_MAX];
    TRY(find_machine(gpu, path));
    TRY(cache_folder(run, cache));
    TRY(backend_open_cuda(
        &(BackendOptions){.threads = 1, .deterministic = run->device.deterministic, .cache = cache, .properties = path},
        out));
fail:
    return status;
}

Status network_open_backend(const RunConfig *run, Comm *comm, Backend **out)
{
    Status status = STATUS_OK;
    char cache[PATH_MAX];
    TRY(cache_folder(run, cache));
    BackendOptions options = {.threads = (int32_t)run->device.threads,
                              .local_rank = comm ? comm_local_rank(comm) : 0,
                              .deterministic = run->device.deterministic,
                              .cache = cache};
    /* Alone, or told by OMP_NUM_THREADS, the backend's own choice serves. */
    bool shared = comm && comm_world(comm) > 1 && !getenv("OMP_NUM_THREADS");
    if (!options.threads && shared) TRY(share_of_processors(comm, &options.threads));
    TRY(backend_open(device_word(&run->device), &options, out));
fail:
    return status;
}
