#include "train/scaling.h"

#include <math.h>
#include <stdlib.h>

#include "base/arena.h"
#include "train/trainer.h"

const char *const SCALING_COLLECTIVE_WORDS[] = {"reduce", "gather", "all_reduce", NULL};

/* ---- collectives ---- */

/* A tree's depth; NCCL's trees and its parallel-aggregated-tree reduce-scatter and all-gather, and MPI libraries' small
 * collectives, all have a logarithmic number of hops. */
static double hops(double ranks)
{
    return ranks > 1 ? ceil(log2(ranks) - 1e-9) : 0;
}

static double stage(const ScalingLink *link, ScalingCollective what, double ranks, double bytes)
{
    const ScalingRate *rate = &link->rate[what];
    const double times = what == SCALING_ALL_REDUCE ? 2 : 1;
    if (ranks <= 1) return 0;
    return times * (rate->latency * hops(ranks) + bytes * (ranks - 1) / ranks / rate->bytes_per_second);
}

/* Inside each machine first, so that only a share of the data crosses between them; for a gather in the other order. */
double scaling_collective_seconds(const ScalingNetwork *network, ScalingCollective what, int64_t local, int64_t nodes,
                                  double bytes)
{
    return stage(&network->local, what, (double)local, bytes) +
           stage(&network->remote, what, (double)nodes, bytes / (double)local);
}

typedef struct Places {
    int64_t local, nodes;
} Places;

/* Where `ranks` ranks lie of which every `apart`-th is meant. */
static Places places_of(const ScalingNetwork *network, int64_t ranks, int64_t apart)
{
    int64_t local = network->per_node / apart;
    if (local < 1) local = 1;
    if (local > ranks) local = ranks;
    return (Places){local, (ranks + local - 1) / local};
}

double scaling_reduce_seconds(const ScalingNetwork *network, const ScalingMode *mode, double bytes)
{
    const Places group = places_of(network, mode->group, 1);
    const Places across = places_of(network, mode->ranks / mode->group, mode->group);
    if (mode->group >= mode->ranks)
        return scaling_collective_seconds(network, mode->sharded ? SCALING_REDUCE : SCALING_ALL_REDUCE, group.local,
                                          group.nodes, bytes);
    double seconds = scaling_collective_seconds(network, SCALING_REDUCE, group.local, group.nodes, bytes) +
                     scaling_collective_seconds(network, SCALING_ALL_REDUCE, across.local, across.nodes,
                                                bytes / (double)mode->group);
    if (!mode->sharded) seconds += scaling_collective_seconds(network, SCALING_GATHER, group.local, group.nodes, bytes);
    return seconds;
}

double scaling_gather_seconds(const ScalingNetwork *network, const ScalingMode *mode, double bytes)
{
    const Places group = places_of(network, mode->group, 1);
    return scaling_collective_seconds(network, SCALING_GATHER, group.local, group.nodes, bytes);
}

/* A reduce-scatter or all-gather among n ranks sends (n - 1) / n of the data, an all-reduce twice that; groups exchange
 * one share. Weights travel as they are. */
double scaling_traffic(const ScalingMode *mode, double elements)
{
    const double group = (double)mode->group, groups = (double)mode->ranks / group;
    const double gathered = mode->sharded ? sizeof(float) : mode->wire_bytes;
    return elements * (mode->wire_bytes + gathered) * (group - 1) / group +
           2 * elements * mode->wire_bytes / group * (groups - 1) / groups;
}

static double agreement_seconds(const ScalingNetwork *network, const ScalingMode *mode, int64_t elements)
{
    const Places all = places_of(network, mode->ranks, 1);
    const double blocks = (double)update_norm_block_count(elements) * sizeof(double);
    double seconds = scaling_collective_seconds(network, SCALING_GATHER, all.local, all.nodes,
                                                (double)TRAINER_TOLD_BYTES * (double)mode->ranks);
    if (mode->sharded) seconds += scaling_gather_seconds(network, mode, blocks);
    return seconds;
}

/* ---- the time line ---- */

typedef struct Moment {
    int32_t op, bucket;
} Moment;

typedef struct Line {
    const ScalingWork *work;
    const ScalingNetwork *network;
    const ScalingMode *mode;
    Moment *ready, *needed; /* the buckets by Bucket.ready_after, and by needed_by */
    double *arrives;        /* per bucket: when its weights are there */
    double now;             /* of computing */
    double link_free;       /* when the last collective so far ends */
    ScalingStep *step;
} Line;

static int by_op(const void *pa, const void *pb)
{
    const Moment *a = pa, *b = pb;
    if (a->op != b->op) return a->op < b->op ? -1 : 1;
    return a->bucket < b->bucket ? -1 : a->bucket > b->bucket;
}

/* Computes for `seconds` of an idle machine. */
static void compute(Line *line, double seconds)
{
    const double slow = 1 + line->network->slowdown, start = line->now;
    const double beside = line->link_free > start ? line->link_free - start : 0;
    line->now += seconds * slow <= beside ? seconds * slow : beside + seconds - beside / slow;
    line->step->compute += line->now - start;
}

static void wait_until(Line *line, double when, double *exposed)
{
    if (when <= line->now) return;
    *exposed += when - line->now;
    line->now = when;
}

/* Returns when it ends. */
static double begin_collective(Line *line, double seconds, double *exposed)
{
    const double start = line->link_free > line->now ? line->link_free : line->now;
    line->link_free = start + seconds;
    line->step->communication += seconds;
    if (!line->mode->overlap) wait_until(line, line->link_free, exposed);
    return line->link_free;
}

static void gather_weights(Line *line)
{
    for (int32_t k = 0; k < line->work->bucket_count; k++) {
        const int32_t b = line->needed[k].bucket;
        const double bytes = (double)line->work->buckets[b].count * sizeof(float);
        line->arrives[b] = begin_collective(line, scaling_gather_seconds(line->network, line->mode, bytes),
                                            &line->step->exposed_weights);
    }
}

static void run_micro_batch(Line *line, bool first, bool last)
{
    const ScalingWork *work = line->work;
    const bool gathered = first && line->mode->sharded;
    int32_t needed = 0, ready = 0;
    for (int32_t i = 0; i < work->op_count; i++) {
        for (; gathered && needed < work->bucket_count && line->needed[needed].op <= i; needed++)
            wait_until(line, line->arrives[line->needed[needed].bucket], &line->step->exposed_weights);
        compute(line, work->op_seconds[i]);
        for (; last && ready < work->bucket_count && line->ready[ready].op <= i; ready++) {
            const double bytes = (double)work->buckets[line->ready[ready].bucket].count * line->mode->wire_bytes;
            (void)begin_collective(line, scaling_reduce_seconds(line->network, line->mode, bytes),
                                   &line->step->exposed_gradients);
        }
    }
}

static void run_step(Line *line)
{
    const ScalingWork *work = line->work;
    ScalingStep *step = line->step;
    int64_t elements = 0;
    for (int32_t b = 0; b < work->bucket_count; b++) elements += work->buckets[b].count;
    const bool alone = line->mode->ranks <= 1;
    if (!alone && line->mode->sharded) gather_weights(line);
    compute(line, work->fixed_seconds);
    for (int64_t m = 0; m < work->micro_batches; m++)
        run_micro_batch(line, m == 0 && !alone, m == work->micro_batches - 1 && !alone);
    wait_until(line, line->link_free, &step->exposed_gradients);
    step->agreement = alone ? 0 : agreement_seconds(line->network, line->mode, elements);
    step->update = work->update_seconds / (double)(line->mode->sharded ? line->mode->group : 1);
    step->seconds = line->now + step->agreement + step->update;
    step->images_per_second = work->images * (double)line->mode->ranks / step->seconds;
}

Status scaling_step(const ScalingWork *work, const ScalingNetwork *network, const ScalingMode *mode, ScalingStep *out)
{
    Status status = STATUS_OK;
    const size_t count = (size_t)work->bucket_count + 1;
    Line line = {.work = work, .network = network, .mode = mode, .step = out};
    *out = (ScalingStep){0};
    line.ready = mem_alloc_array(count, sizeof *line.ready);
    line.needed = mem_alloc_array(count, sizeof *line.needed);
    line.arrives = mem_alloc_array(count, sizeof *line.arrives);
    if (!line.ready || !line.needed || !line.arrives) FAIL(ERR_MEMORY, "no memory for %d buckets", work->bucket_count);
    for (int32_t b = 0; b < work->bucket_count; b++) {
        line.ready[b] = (Moment){work->buckets[b].ready_after, b};
        line.needed[b] = (Moment){work->buckets[b].needed_by, b};
    }
    qsort(line.ready, (size_t)work->bucket_count, sizeof *line.ready, by_op);
    qsort(line.needed, (size_t)work->bucket_count, sizeof *line.needed, by_op);
    run_step(&line);
fail:
    free(line.ready);
    free(line.needed);
    free(line.arrives);
    return status;
}

/* ---- fitting ---- */

/* With weights 1 / t^2 the normal equations of t ~ a + b x are, S(.) meaning the sum of ./t^2,
 * a S(1) + b S(x) = S(t), a S(x) + b S(x^2) = S(x t). */
bool scaling_fit(const double *amount, const double *seconds, int count, double *latency, double *rate, double *worst)
{
    double s1 = 0, sx = 0, sxx = 0, st = 0, sxt = 0;
    for (int i = 0; i < count; i++) {
        const double w = 1 / (seconds[i] * seconds[i]), x = amount[i];
        s1 += w;
        sx += w * x;
        sxx += w * x * x;
        st += w * seconds[i];
        sxt += w * x * seconds[i];
    }
    const double determinant = s1 * sxx - sx * sx;
    if (count < 2 || !(determinant > 1e-12 * s1 * sxx)) return false;
    double a = (st * sxx - sx * sxt) / determinant, b = (s1 * sxt - sx * st) / determinant;
    if (a < 0) {
        a = 0;
        b = sxt / sxx;
    } else if (b < 0) {
        b = 0;
        a = st / s1;
    }
    *latency = a;
    *rate = b > 0 ? 1 / b : INFINITY;
    *worst = 0;
    for (int i = 0; i < count; i++) *worst = fmax(*worst, fabs((a + b * amount[i]) / seconds[i] - 1));
    return true;
}
