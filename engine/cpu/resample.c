#include "engine/cpu/cpu.h"

typedef struct Resample {
    const Cpu *cpu;
    const void *from;
    void *to;
    Dtype type;
    int64_t small_w, c; /* of the smaller picture */
    float factor;
    bool add;
} Resample;

/* Rows [begin, end) of the smaller picture, samples one after the other; each belongs to two rows of the larger. Each
 * element goes, times `factor`, to the 2x2 elements under it. */
static Status spread_share(void *context, int64_t begin, int64_t end, int32_t thread)
{
    const Resample *r = context;
    const int64_t row = r->small_w * r->c;
    for (int64_t y = begin; y < end; y++) {
        CopyRows copy = {.x = cpu_at(r->from, r->type, y * row),
                         .x_type = r->type,
                         .y_type = r->type,
                         .x_pitch = r->c,
                         .y_pitch = 2 * r->c,
                         .rows = r->small_w,
                         .width = r->c,
                         .scale = r->factor,
                         .add = r->add};
        for (int64_t corner = 0; corner < 4; corner++) {
            copy.y = cpu_at(r->to, r->type, 4 * y * row + (corner / 2) * 2 * row + (corner % 2) * r->c);
            r->cpu->vector->copy_rows(&copy);
        }
    }
    return STATUS_OK;
}

/* The other way: the sum of 2x2 elements times `factor`. */
static Status gather_share(void *context, int64_t begin, int64_t end, int32_t thread)
{
    const Resample *r = context;
    const int64_t row = r->small_w * r->c;
    for (int64_t y = begin; y < end; y++) {
        const void *top = cpu_at(r->from, r->type, 4 * y * row), *bottom = cpu_at(top, r->type, 2 * row);
        r->cpu->vector->pool_row(top, bottom, cpu_at(r->to, r->type, y * row), r->type, r->small_w, r->c, r->factor,
                                 r->add);
    }
    return STATUS_OK;
}

static Status resample_run(const KernelCall *call)
{
    const Tensor *x = cpu_in(call, 0), *y = cpu_out(call, 0);
    const bool spreads = shape_count(&y->shape) > shape_count(&x->shape);
    const Shape *small = spreads ? &x->shape : &y->shape;
    const bool averages = call->op->attr.resample.mode == RESAMPLE_DOWN2_AVERAGE; /* or its gradient */
    Resample r = {.cpu = cpu_of_call(call),
                  .from = call->in[0],
                  .to = call->out[0],
                  .type = x->dtype,
                  .small_w = small->dim[2],
                  .c = small->dim[3],
                  .factor = averages ? 0.25f : 1.0f,
                  .add = cpu_adds(call, 0)};
    const int64_t rows = small->dim[0] * small->dim[1];
    return cpu_parallel(r.cpu, rows, CPU_GRAIN / (4 * r.small_w * r.c) + 2, spreads ? spread_share : gather_share, &r);
}

const Kernel cpu_kernel_RESAMPLE = {.prepare = cpu_prepare_plain, .run = resample_run};
const Kernel cpu_kernel_RESAMPLE_GRAD = {.prepare = cpu_prepare_plain, .run = resample_run};
