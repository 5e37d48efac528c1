#include "train/run_plan.h"

#include "base/file.h"
#include "base/json.h"

static void write_memory(JsonWriter *w, const MemoryPlan *memory)
{
    json_array(w, "memory");
    for (int use = 0; use < MEMORY_USES; use++) {
        if (memory->bytes[use] == 0 && memory->device[use] == 0) continue;
        json_object(w, NULL);
        json_string(w, "use", memory_use_label((MemoryUse)use));
        json_int(w, "bytes", memory->bytes[use]);
        json_int(w, "device_bytes", memory->device[use]);
        json_end_object(w);
    }
    json_end_array(w);
    json_int(w, "memory_total", memory->total);
    json_int(w, "device_memory_total", memory->device_total);
}

Status run_plan_write(const char *path, const RunConfig *run, const Network *network, int ranks, const char *device)
{
    Status status = STATUS_OK;
    StrBuf text = {0};
    JsonWriter w;
    json_begin(&w, &text);
    json_object(&w, NULL);
    json_int(&w, "parameters", param_table_trainable_parameters(network->params));
    json_int(&w, "ranks", ranks);
    json_string(&w, "device", device);
    json_string(&w, "precision", dtype_name(network->compute));
    json_int(&w, "resolution", run->train.resolution);
    json_int(&w, "global_batch", run->train.global_batch);
    json_int(&w, "micro_batch", network->micro_batch);
    json_int(&w, "schedule_steps", run->optim.total_steps);
    write_memory(&w, &network->memory);
    json_end_object(&w);
    TRY(strbuf_append(&text, "\n", 1));
    TRY(file_write_atomic(path, text.data, text.size));
fail:
    strbuf_free(&text);
    return status;
}
