#include "engine/cpu/cpu.h"

#include <omp.h>
#include <string.h>

void cpu_use_threads(const Cpu *cpu)
{
    omp_set_dynamic(0);
    omp_set_num_threads(cpu->threads);
}

void cpu_use_one_thread(void)
{
    omp_set_dynamic(0);
    omp_set_num_threads(1);
}

void cpu_share(int64_t count, int64_t parts, int64_t part, int64_t *begin, int64_t *end)
{
    const int64_t each = count / parts, more = count % parts;
    *begin = part * each + (part < more ? part : more);
    *end = *begin + each + (part < more);
}

Status cpu_parallel(const Cpu *cpu, int64_t count, int64_t grain,
                    Status (*body)(void *context, int64_t begin, int64_t end, int32_t thread), void *context)
{
    /* Always the whole team or none of it: OpenMP runtimes end and start threads when the team's size changes. */
    if (cpu->threads == 1 || count < grain || count < 2) return count > 0 ? body(context, 0, count, 0) : STATUS_OK;
    StatusRecord failure = {.status = STATUS_OK};
#pragma omp parallel num_threads(cpu->threads)
    {
        /* The runtime may give fewer threads than asked for; each then takes several shares. */
        for (int32_t part = omp_get_thread_num(); part < cpu->threads; part += omp_get_num_threads()) {
            int64_t begin, end;
            cpu_share(count, cpu->threads, part, &begin, &end);
            Status status = begin < end ? body(context, begin, end, part) : STATUS_OK;
            if (status != STATUS_OK) {
#pragma omp critical(cpu_parallel_failure)
                if (failure.status == STATUS_OK) status_save(status, &failure);
            }
        }
    }
    return failure.status == STATUS_OK ? STATUS_OK : status_restore(&failure);
}

void *carve(Carver *carver, int64_t count, size_t size)
{
    const size_t at = carver->used;
    carver->used += ((size_t)count * size + 63) / 64 * 64;
    return carver->base ? carver->base + at : NULL;
}

typedef struct Flat {
    const Cpu *cpu;
    const void *a, *b;
    void *y;
    Dtype a_type, y_type;
    bool add;
} Flat;

static Status copy_share(void *context, int64_t begin, int64_t end, int32_t thread)
{
    const Flat *f = context;
    f->cpu->vector->copy_rows(&(CopyRows){.x = cpu_at(f->a, f->a_type, begin),
                                          .y = cpu_at(f->y, f->y_type, begin),
                                          .x_type = f->a_type,
                                          .y_type = f->y_type,
                                          .rows = 1,
                                          .width = end - begin,
                                          .scale = 1.0f,
                                          .add = f->add});
    return STATUS_OK;
}

void cpu_copy(const Cpu *cpu, const void *x, Dtype x_type, void *y, Dtype y_type, int64_t count, bool add)
{
    cpu_parallel(cpu, count, CPU_GRAIN, copy_share, &(Flat){cpu, x, NULL, y, x_type, y_type, add});
}

static Status add_share(void *context, int64_t begin, int64_t end, int32_t thread)
{
    const Flat *f = context;
    f->cpu->vector->add(cpu_at(f->a, f->a_type, begin), cpu_at(f->b, f->a_type, begin), cpu_at(f->y, f->a_type, begin),
                        f->a_type, end - begin, f->add);
    return STATUS_OK;
}

void cpu_add(const Cpu *cpu, const void *a, const void *b, void *y, Dtype type, int64_t count, bool accumulate)
{
    cpu_parallel(cpu, count, CPU_GRAIN, add_share, &(Flat){cpu, a, b, y, type, type, accumulate});
}

Status cpu_prepare_plain(Backend *backend, const Graph *graph, const Op *op, Prepared *out)
{
    out->state = backend->context;
    return STATUS_OK;
}

typedef struct Columns {
    const Cpu *cpu;
    const void *x;
    Dtype type;
    int64_t c;
    float *partial;
} Columns;

static Status columns_share(void *context, int64_t begin, int64_t end, int32_t thread)
{
    const Columns *k = context;
    k->cpu->vector->column_sums(cpu_at(k->x, k->type, begin * k->c), k->type, end - begin, k->c,
                                k->partial + thread * k->c);
    return STATUS_OK;
}

void cpu_column_sums(const Cpu *cpu, const void *x, Dtype type, int64_t rows, int64_t c, float *out, bool add,
                     float *partial)
{
    memset(partial, 0, (size_t)(cpu->threads * c) * sizeof *partial);
    cpu_parallel(cpu, rows, CPU_GRAIN / c + 2, columns_share, &(Columns){cpu, x, type, c, partial});
    for (int64_t i = 0; i < c; i++) {
        float sum = 0; /* of the threads, in their order */
        for (int32_t t = 0; t < cpu->threads; t++) sum += partial[t * c + i];
        out[i] = add ? out[i] + sum : sum;
    }
}
