/* The CUDA backend is a shared object opened when it is asked for, so that one program starts everywhere. */
#include <dlfcn.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine/backend.h"

static const char library[] = "libvasily_cuda.so";

/* In the folder of this program; false where there is none. */
static bool beside_program(char out[PATH_MAX])
{
    char program[PATH_MAX];
    const ssize_t size = readlink("/proc/self/exe", program, sizeof program - 1);
    if (size <= 0) return false;
    program[size] = '\0';
    char *slash = strrchr(program, '/');
    if (!slash) return false;
    *slash = '\0';
    if (snprintf(out, PATH_MAX, "%s/%s", program, library) >= PATH_MAX) return false;
    return access(out, R_OK) == 0;
}

bool backend_cuda_is_likely(void)
{
    const char *told = getenv("VASILY_CUDA_LIBRARY");
    if (told && told[0]) return true;
    void *driver = dlopen("libcuda.so.1", RTLD_LAZY | RTLD_LOCAL);
    if (!driver) return false;
    dlclose(driver);
    return true;
}

static Status open_library(void **handle, char path[PATH_MAX])
{
    Status status = STATUS_OK;
    const char *told = getenv("VASILY_CUDA_LIBRARY");
    if (told && told[0]) {
        if (snprintf(path, PATH_MAX, "%s", told) >= PATH_MAX) FAIL(ERR_USAGE, "VASILY_CUDA_LIBRARY is too long");
    } else if (!beside_program(path)) {
        snprintf(path, PATH_MAX, "%s", library);
    }
    *handle = dlopen(path, RTLD_NOW | RTLD_LOCAL);
    if (*handle) return STATUS_OK;
    const char *why = dlerror();
    if (strstr(why, "cannot open shared object file") && strstr(why, library))
        FAIL(ERR_UNSUPPORTED,
             "this build has no CUDA backend: %s is not beside the program (build it where the CUDA "
             "toolkit is, or name it in VASILY_CUDA_LIBRARY)",
             library);
    FAIL(ERR_UNSUPPORTED, "%s cannot be opened: %s", path, why);
fail:
    return status;
}

Status backend_open_cuda(const BackendOptions *options, Backend **out)
{
    Status status = STATUS_OK;
    void *handle = NULL;
    char path[PATH_MAX];
    TRY(open_library(&handle, path));
    union {
        void *object;
        BackendOpen *function;
    } open = {dlsym(handle, "vasily_cuda_open")};
    const int32_t *version = dlsym(handle, "vasily_cuda_version");
    if (!open.object || !version) FAIL(ERR_UNSUPPORTED, "%s is no CUDA backend of this program", path);
    if (*version != BACKEND_PLUGIN_VERSION)
        FAIL(ERR_UNSUPPORTED, "%s has version %d, this program's is %d: build both together", path, *version,
             BACKEND_PLUGIN_VERSION);
    handle = NULL; /* from here on it stays, whatever happens: CUDA's own libraries do not survive being unloaded */
    TRY(open.function(options, out));
fail:
    if (handle) dlclose(handle);
    return status;
}
