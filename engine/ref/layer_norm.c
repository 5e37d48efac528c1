#include "engine/ref/ref.h"

static Status layer_norm_run(const KernelCall *call)
{
    const RefTensor x = ref_in(call, 0), gamma = ref_in(call, 1), beta = ref_in(call, 2);
    const RefTensor y = ref_out(call, 0), stats = ref_out(call, 1);
    const int64_t rows = shape_rows(&x.shape), channels = shape_last(&x.shape);
    for (int64_t r = 0; r < rows; r++) {
        double sum = 0, squares = 0;
        for (int64_t c = 0; c < channels; c++) sum += ref_get(&x, r * channels + c);
        const double mean = sum / (double)channels;
        for (int64_t c = 0; c < channels; c++) {
            const double d = ref_get(&x, r * channels + c) - mean;
            squares += d * d;
        }
        const double rstd = 1 / sqrt(squares / (double)channels + (double)call->op->attr.norm.eps);
        for (int64_t c = 0; c < channels; c++) {
            const double xhat = (ref_get(&x, r * channels + c) - mean) * rstd;
            ref_put(&y, r * channels + c, xhat * ref_get(&gamma, c) + ref_get(&beta, c));
        }
        ref_put(&stats, r * 2, mean);
        ref_put(&stats, r * 2 + 1, rstd);
    }
    return STATUS_OK;
}

/* dx = rstd (dxhat - mean(dxhat) - xhat mean(dxhat xhat)), means over the row, dxhat = dy gamma */
static Status layer_norm_grad_run(const KernelCall *call)
{
    const RefTensor x = ref_in(call, 0), dy = ref_in(call, 1), gamma = ref_in(call, 2), stats = ref_in(call, 3);
    const RefTensor dx = ref_out(call, 0), dgamma = ref_out(call, 1), dbeta = ref_out(call, 2);
    const int64_t rows = shape_rows(&x.shape), channels = shape_last(&x.shape);
    for (int64_t r = 0; r < rows && dx.data; r++) {
        const double mean = ref_get(&stats, r * 2), rstd = ref_get(&stats, r * 2 + 1);
        double sum = 0, sum_xhat = 0;
        for (int64_t c = 0; c < channels; c++) {
            const double dxhat = ref_get(&dy, r * channels + c) * ref_get(&gamma, c);
            sum += dxhat;
            sum_xhat += dxhat * (ref_get(&x, r * channels + c) - mean) * rstd;
        }
        for (int64_t c = 0; c < channels; c++) {
            const double xhat = (ref_get(&x, r * channels + c) - mean) * rstd;
            const double dxhat = ref_get(&dy, r * channels + c) * ref_get(&gamma, c);
            ref_put(&dx, r * channels + c, rstd * (dxhat - (sum + xhat * sum_xhat) / (double)channels));
        }
    }
    for (int64_t c = 0; c < channels; c++) {
        double gamma_sum = 0, beta_sum = 0;
        for (int64_t r = 0; r < rows; r++) {
            const double g = ref_get(&dy, r * channels + c);
            gamma_sum += g * (ref_get(&x, r * channels + c) - ref_get(&stats, r * 2)) * ref_get(&stats, r * 2 + 1);
            beta_sum += g;
        }
        ref_put(&dgamma, c, gamma_sum);
        ref_put(&dbeta, c, beta_sum);
    }
    return STATUS_OK;
}

static Status rms_norm_run(const KernelCall *call)
{
    const RefTensor x = ref_in(call, 0), gamma = ref_in(call, 1), y = ref_out(call, 0);
    const int64_t rows = shape_rows(&x.shape), channels = shape_last(&x.shape);
    for (int64_t r = 0; r < rows; r++) {
        const double mean_square = ref_dot(&x, r * channels, &x, r * channels, channels) / (double)channels;
        const double scale = 1 / sqrt(mean_square + (double)call->op->attr.norm.eps);
        for (int64_t c = 0; c < channels; c++) {
            ref_put(&y, r * channels + c, ref_get(&x, r * channels + c) * scale * ref_get(&gamma, c));
        }
    }
    return STATUS_OK;
}

const Kernel ref_kernel_LAYER_NORM = {.run = layer_norm_run};
const Kernel ref_kernel_LAYER_NORM_GRAD = {.run = layer_norm_grad_run};
const Kernel ref_kernel_RMS_NORM = {.run = rms_norm_run};
