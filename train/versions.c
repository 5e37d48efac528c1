#include "train/versions.h"

#include "base/library_versions.h"
#include "data/library_versions.h"
#include "engine/backend.h"
#include "engine/comm.h"
#include "train/tensorboard.h"

Status versions_describe(StrBuf *out)
{
    Status status = STATUS_OK;
    Backend *backend = NULL;
    char text[512];
    TRY(strbuf_printf(out, "vasily %s\n", VASILY_VERSION));
    TRY(base_library_versions(out));
    TRY(strbuf_printf(out, "\n"));
    TRY(data_library_versions(out));
    tensorboard_library_version(text, sizeof text);
    TRY(strbuf_printf(out, ", %s", text));
    TRY(strbuf_printf(out, "\nMPI: %s\n", comm_library_version()));
    if (backend_open_cpu(&(BackendOptions){.threads = 1}, &backend) == STATUS_OK) {
        backend_describe(backend, text, sizeof text);
        TRY(strbuf_printf(out, "CPU: %s\n", text));
    }
fail:
    if (backend) backend_close(backend);
    return status;
}
