#include "engine/ref/ref.h"

/* y[r,o] = act(b[o] + sum over c of x[r,c] w[o,c]) + residual[r,o] */
static Status linear_run(const KernelCall *call)
{
    const RefTensor x = ref_in(call, 0), w = ref_in(call, 1), b = ref_in_optional(call, 2);
    const RefTensor residual = ref_in_optional(call, 3), y = ref_out(call, 0);
    const int64_t rows = shape_rows(&x.shape), c = shape_last(&x.shape), outs = shape_last(&y.shape);
    for (int64_t r = 0; r < rows; r++) {
        for (int64_t o = 0; o < outs; o++) {
            const double sum = ref_dot(&x, r * c, &w, o * c, c) + ref_get(&b, o);
            const double value = ref_activate(call->op->attr.linear.act, sum);
            ref_put(&y, r * outs + o, value + ref_get(&residual, r * outs + o));
        }
    }
    return STATUS_OK;
}

/* dx[r,c] = sum over o of dy[r,o] w[o,c] */
static Status linear_grad_x_run(const KernelCall *call)
{
    const RefTensor w = ref_in(call, 0), dy = ref_in(call, 1), dx = ref_out(call, 0);
    const int64_t rows = shape_rows(&dx.shape), channels = shape_last(&dx.shape), outs = shape_last(&dy.shape);
    for (int64_t r = 0; r < rows; r++) {
        for (int64_t c = 0; c < channels; c++) {
            double sum = 0;
            for (int64_t o = 0; o < outs; o++) sum += ref_get(&dy, r * outs + o) * ref_get(&w, o * channels + c);
            ref_put(&dx, r * channels + c, sum);
        }
    }
    return STATUS_OK;
}

/* dw[o,c] = sum over r of dy[r,o] x[r,c];   db[o] = sum over r of dy[r,o] */
static Status linear_grad_w_run(const KernelCall *call)
{
    const RefTensor x = ref_in(call, 0), dy = ref_in(call, 1), dw = ref_out(call, 0), db = ref_out(call, 1);
    const int64_t rows = shape_rows(&x.shape), channels = shape_last(&x.shape), outs = shape_last(&dy.shape);
    for (int64_t o = 0; o < outs; o++) {
        for (int64_t c = 0; c < channels && dw.data; c++) {
            double sum = 0;
            for (int64_t r = 0; r < rows; r++) sum += ref_get(&dy, r * outs + o) * ref_get(&x, r * channels + c);
            ref_put(&dw, o * channels + c, sum);
        }
        double sum = 0;
        for (int64_t r = 0; r < rows; r++) sum += ref_get(&dy, r * outs + o);
        ref_put(&db, o, sum);
    }
    return STATUS_OK;
}

const Kernel ref_kernel_LINEAR = {.run = linear_run};
const Kernel ref_kernel_LINEAR_GRAD_X = {.run = linear_grad_x_run};
const Kernel ref_kernel_LINEAR_GRAD_W = {.run = linear_grad_w_run};
