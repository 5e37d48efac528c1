#include "train/calibration.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/json.h"

enum { FILE_LIMIT = 1 << 24, ROW_LIMIT = 100000 };

static const char *const WIRES[] = {"f32", "bf16"};

/* ---- reading ---- */

static const char *text_at(const JsonValue *object, const char *key)
{
    const char *text = json_text(json_get(object, key), NULL);
    return text ? text : "";
}

/* A number of [0, 1e18]. */
static Status number_at(const char *path, const JsonValue *object, const char *key, double *out)
{
    Status status = STATUS_OK;
    const JsonValue *value = json_get(object, key);
    *out = 0;
    if (!json_is_number(value) || !json_number(value, out) || !(*out >= 0 && *out <= 1e18))
        FAIL(ERR_FORMAT,
             "%s: \"%s\" is missing or no number of at least 0; is it whole, as `vasily bench step --json` or `vasily "
             "bench comm --json` wrote it?",
             path, key);
fail:
    return status;
}

static Status integer_at(const char *path, const JsonValue *object, const char *key, int64_t *out)
{
    Status status = STATUS_OK;
    double value;
    TRY(number_at(path, object, key, &value));
    if (value < 1 || value > 1e12 || value != floor(value))
        FAIL(ERR_FORMAT, "%s: \"%s\" is %g, not a whole number of at least 1", path, key, value);
    *out = (int64_t)value;
fail:
    return status;
}

/* Rows for ops of the graph; packing and the optimizer are told apart. */
static Status read_row(const JsonValue *row, CalibrationStep *step, Arena *arena, double *listed)
{
    Status status = STATUS_OK;
    const char *op = text_at(row, "op");
    double seconds;
    TRY(number_at(step->path, row, "seconds", &seconds));
    *listed += seconds;
    if (strcmp(op, "pack") == 0) {
        step->fixed_seconds += seconds;
    } else if (strcmp(op, "optimizer") == 0) {
        step->update_seconds += seconds;
    } else {
        CalibrationRow *out = &step->rows[step->row_count++];
        TRY(integer_at(step->path, row, "count", &out->count));
        out->op = arena_strdup(arena, op);
        out->shape = arena_strdup(arena, text_at(row, "shape"));
        out->seconds = seconds / (double)step->micro_batches;
        if (!out->op || !out->shape) FAIL(ERR_MEMORY, "out of memory");
    }
fail:
    return status;
}

static Status read_step(const JsonValue *root, Arena *arena, CalibrationStep *step)
{
    Status status = STATUS_OK;
    const JsonValue *ops = json_get(root, "ops");
    const size_t count = json_count(ops);
    int64_t batch;
    double seconds, listed = 0;
    TRY(integer_at(step->path, root, "parameters", &step->parameters));
    TRY(integer_at(step->path, root, "batch", &batch));
    TRY(integer_at(step->path, root, "micro_batch", &step->micro_batch));
    TRY(number_at(step->path, root, "step_seconds", &seconds));
    if (batch % step->micro_batch || count > ROW_LIMIT)
        FAIL(ERR_FORMAT, "%s: a batch of %lld in micro-batches of %lld, with %zu ops", step->path, (long long)batch,
             (long long)step->micro_batch, count);
    step->micro_batches = batch / step->micro_batch;
    step->rows = arena_alloc_array(arena, count + 1, sizeof *step->rows);
    if (!step->rows) FAIL(ERR_MEMORY, "out of memory");
    for (size_t i = 0; i < count; i++) TRY(read_row(json_item(ops, i), step, arena, &listed));
    if (seconds > listed) step->fixed_seconds += seconds - listed; /* what is no op */
fail:
    return status;
}

static int word_index(const char *word, const char *const *words, int count)
{
    for (int i = 0; i < count; i++)
        if (strcmp(words[i], word) == 0) return i;
    return -1;
}

static Status read_comm(const JsonValue *root, CalibrationComm *comm)
{
    Status status = STATUS_OK;
    const JsonValue *fits = json_get(root, "fits");
    TRY(integer_at(comm->path, root, "ranks", &comm->ranks));
    TRY(integer_at(comm->path, root, "local_ranks", &comm->local_ranks));
    TRY(number_at(comm->path, root, "slowdown", &comm->slowdown));
    if (comm->ranks < 2)
        FAIL(ERR_FORMAT, "%s: measured on one rank, which communicates with nobody; start it on 2 or more", comm->path);
    if (comm->local_ranks != comm->ranks && comm->local_ranks != 1)
        FAIL(ERR_FORMAT,
             "%s: %lld ranks, %lld of them on a machine: the two links cannot be told apart. Measure all ranks of one "
             "machine, and one rank on each of several",
             comm->path, (long long)comm->ranks, (long long)comm->local_ranks);
    for (size_t i = 0; i < json_count(fits); i++) {
        const JsonValue *fit = json_item(fits, i);
        const int what = word_index(text_at(fit, "collective"), SCALING_COLLECTIVE_WORDS, SCALING_COLLECTIVES);
        const int wire = word_index(text_at(fit, "wire"), WIRES, 2);
        if (what < 0 || wire < 0) continue;
        double latency, rate;
        TRY(number_at(comm->path, fit, "latency_seconds", &latency));
        TRY(number_at(comm->path, fit, "bytes_per_second", &rate));
        if (!(rate > 0)) FAIL(ERR_FORMAT, "%s: \"bytes_per_second\" is 0", comm->path);
        comm->fit[what][wire].there = true;
        comm->fit[what][wire].latency = latency;
        comm->fit[what][wire].bytes_per_second = rate;
    }
fail:
    return status;
}

static Status read_one(const char *path, Arena *arena, Calibration *out)
{
    Status status = STATUS_OK;
    char *text = NULL;
    size_t size;
    JsonDoc *doc = NULL;
    TRY(file_read(path, FILE_LIMIT, &text, &size));
    status = json_parse(text, size, FILE_LIMIT, &doc);
    if (status != STATUS_OK) {
        status_prefix("%s is not what `vasily bench step --json` or `vasily bench comm --json` wrote: ", path);
        goto fail;
    }
    if (json_has_duplicate_keys(doc)) FAIL(ERR_FORMAT, "%s: a key is there twice", path);
    if (json_get(json_root(doc), "ops")) {
        CalibrationStep *step = &out->steps[out->step_count++];
        step->path = path;
        TRY(read_step(json_root(doc), arena, step));
    } else if (json_get(json_root(doc), "fits")) {
        CalibrationComm *comm = &out->comms[out->comm_count++];
        comm->path = path;
        TRY(read_comm(json_root(doc), comm));
    } else {
        FAIL(ERR_FORMAT, "%s: neither from `vasily bench step --json` nor from `vasily bench comm --json`", path);
    }
fail:
    json_free(doc);
    free(text);
    return status;
}

Status calibration_read(const char *const *paths, size_t count, Arena *arena, Calibration *out)
{
    Status status = STATUS_OK;
    *out = (Calibration){.steps = arena_alloc_array(arena, count + 1, sizeof *out->steps),
                         .comms = arena_alloc_array(arena, count + 1, sizeof *out->comms)};
    if (!out->steps || !out->comms) FAIL(ERR_MEMORY, "out of memory");
    for (size_t i = 0; i < count; i++) TRY(read_one(paths[i], arena, out));
fail:
    return status;
}

/* ---- computing ---- */

static bool is_of_row(const Graph *graph, const Op *op, const CalibrationRow *row)
{
    char shape[96] = "";
    if (strcmp(op_info(op->kind)->name, row->op) != 0) return false;
    if (!row->shape[0]) return true;
    for (int32_t k = 0; k < op->out_count; k++) {
        if (op->out[k] == TENSOR_NONE) continue;
        shape_format(&graph_tensor(graph, op->out[k])->shape, shape, sizeof shape);
        break;
    }
    return strcmp(shape, row->shape) == 0;
}

static Status add_row(const CalibrationStep *step, const CalibrationRow *row, const Graph *graph, double weight,
                      double *op_seconds, int64_t *matched)
{
    double flops = 0, bytes = 0;
    int64_t count = 0;
    for (int32_t i = 0; i < graph_op_count(graph); i++) {
        const Op *op = graph_op(graph, i);
        if (!is_of_row(graph, op, row)) continue;
        const OpCost cost = op_info(op->kind)->cost(graph, op);
        flops += cost.flops;
        bytes += cost.bytes;
        count++;
    }
    if (count != row->count)
        return status_fail(ERR_MISMATCH, __FILE__, __LINE__,
                           "%s: %lld ops %s were measured, the plan has %lld; measure the same config (`vasily bench "
                           "step --json`, with --frozen where encoders run in every step)",
                           step->path, (long long)row->count, row->op, (long long)count);
    for (int32_t i = 0; i < graph_op_count(graph); i++) {
        const Op *op = graph_op(graph, i);
        if (!is_of_row(graph, op, row)) continue;
        const OpCost cost = op_info(op->kind)->cost(graph, op);
        const double share = flops > 0 ? cost.flops / flops : bytes > 0 ? cost.bytes / bytes : 1 / (double)count;
        op_seconds[i] += weight * row->seconds * share;
    }
    *matched += count;
    return STATUS_OK;
}

Status calibration_ops(const Calibration *calibration, const Graph *graph, int64_t micro_batch, double *op_seconds,
                       double *update_seconds, double *fixed_seconds)
{
    Status status = STATUS_OK;
    const int64_t parameters = param_table_trainable_parameters(graph_params(graph));
    const double weight = 1 / (double)calibration->step_count;
    memset(op_seconds, 0, (size_t)graph_op_count(graph) * sizeof *op_seconds);
    *update_seconds = *fixed_seconds = 0;
    for (size_t s = 0; s < calibration->step_count; s++) {
        const CalibrationStep *step = &calibration->steps[s];
        int64_t matched = 0;
        if (step->parameters != parameters || step->micro_batch != micro_batch)
            FAIL(
                ERR_MISMATCH,
                "%s: measured with %lld parameters and micro-batches of %lld, the plan has %lld and %lld; measure this "
                "config, with the same train.micro_batch",
                step->path, (long long)step->parameters, (long long)step->micro_batch, (long long)parameters,
                (long long)micro_batch);
        for (size_t r = 0; r < step->row_count; r++)
            TRY(add_row(step, &step->rows[r], graph, weight, op_seconds, &matched));
        if (matched != graph_op_count(graph))
            FAIL(ERR_MISMATCH,
                 "%s: %lld of the plan's %d ops were measured; measure the same config (`vasily bench step --json`, "
                 "with "
                 "--frozen where encoders run in every step)",
                 step->path, (long long)matched, graph_op_count(graph));
        *update_seconds += weight * step->update_seconds;
        *fixed_seconds += weight * step->fixed_seconds;
    }
fail:
    return status;
}

/* ---- communicating ---- */

/* Of the files that measured the same links. */
static size_t alike(const Calibration *calibration, bool local)
{
    size_t count = 0;
    for (size_t i = 0; i < calibration->comm_count; i++) count += (calibration->comms[i].local_ranks > 1) == local;
    return count;
}

int64_t calibration_per_node(const Calibration *calibration)
{
    int64_t most = 0;
    for (size_t i = 0; i < calibration->comm_count; i++)
        if (calibration->comms[i].local_ranks > most) most = calibration->comms[i].local_ranks;
    return most;
}

Status calibration_network(const Calibration *calibration, bool bf16_wire, ScalingNetwork *network)
{
    Status status = STATUS_OK;
    size_t seen[2] = {0, 0}; /* files of the remote links, of the local ones */
    if (calibration->comm_count > 0) network->slowdown = 0;
    for (size_t i = 0; i < calibration->comm_count; i++) {
        const CalibrationComm *comm = &calibration->comms[i];
        const bool local = comm->local_ranks > 1;
        const double hops = ceil(log2((double)comm->ranks) - 1e-9), weight = 1.0 / (double)alike(calibration, local);
        ScalingRate *rates = (local ? &network->local : &network->remote)->rate;
        const bool first = seen[local]++ == 0;
        for (int what = 0; what < SCALING_COLLECTIVES; what++) {
            const int wire = bf16_wire && what != SCALING_GATHER; /* weights travel as they are */
            if (!comm->fit[what][wire].there)
                FAIL(ERR_FORMAT, "%s: no fit of \"%s\" with %s on the wire", comm->path, SCALING_COLLECTIVE_WORDS[what],
                     WIRES[wire]);
            const double times = what == SCALING_ALL_REDUCE ? 2 : 1;
            /* Times are averaged, so of bandwidths it is the harmonic mean. */
            const double latency = first ? 0 : rates[what].latency;
            const double byte_seconds = first ? 0 : 1 / rates[what].bytes_per_second;
            rates[what] = (ScalingRate){latency + weight * comm->fit[what][wire].latency / (times * hops),
                                        1 / (byte_seconds + weight / comm->fit[what][wire].bytes_per_second)};
        }
        network->slowdown += comm->slowdown / (double)calibration->comm_count;
    }
fail:
    return status;
}
