#include "engine/ref/ref.h"

/* Doubles: each element of `from` (N,H,W,C) goes, times `factor`, to the 2x2 elements of `to` under it. */
static void spread(const RefTensor *from, const RefTensor *to, double factor)
{
    const int64_t n = to->shape.dim[0], h = to->shape.dim[1], w = to->shape.dim[2], c = to->shape.dim[3];
    for (int64_t i = 0; i < n; i++) {
        for (int64_t y = 0; y < h; y++) {
            for (int64_t x = 0; x < w; x++) {
                for (int64_t k = 0; k < c; k++) {
                    const int64_t at = ((i * (h / 2) + y / 2) * (w / 2) + x / 2) * c + k;
                    ref_put(to, ((i * h + y) * w + x) * c + k, factor * ref_get(from, at));
                }
            }
        }
    }
}

/* Halves: each element of `to` is `factor` times the sum of the 2x2 elements of `from` (N,2H,2W,C) under it. */
static void gather(const RefTensor *from, const RefTensor *to, double factor)
{
    const int64_t n = to->shape.dim[0], h = to->shape.dim[1], w = to->shape.dim[2], c = to->shape.dim[3];
    for (int64_t i = 0; i < n; i++) {
        for (int64_t y = 0; y < h; y++) {
            for (int64_t x = 0; x < w; x++) {
                for (int64_t k = 0; k < c; k++) {
                    const int64_t at = ((i * 2 * h + 2 * y) * 2 * w + 2 * x) * c + k;
                    const double sum = ref_get(from, at) + ref_get(from, at + c) + ref_get(from, at + 2 * w * c) +
                                       ref_get(from, at + 2 * w * c + c);
                    ref_put(to, ((i * h + y) * w + x) * c + k, factor * sum);
                }
            }
        }
    }
}

static Status resample_run(const KernelCall *call)
{
    const RefTensor x = ref_in(call, 0), y = ref_out(call, 0);
    if (call->op->attr.resample.mode == RESAMPLE_UP2_NEAREST) {
        spread(&x, &y, 1);
    } else {
        gather(&x, &y, 0.25);
    }
    return STATUS_OK;
}

static Status resample_grad_run(const KernelCall *call)
{
    const RefTensor dy = ref_in(call, 0), dx = ref_out(call, 0);
    if (call->op->attr.resample.mode == RESAMPLE_UP2_NEAREST) {
        gather(&dy, &dx, 1);
    } else {
        spread(&dy, &dx, 0.25);
    }
    return STATUS_OK;
}

const Kernel ref_kernel_RESAMPLE = {.run = resample_run};
const Kernel ref_kernel_RESAMPLE_GRAD = {.run = resample_grad_run};
