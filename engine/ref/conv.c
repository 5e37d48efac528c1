#include "engine/ref/ref.h"

/* Sizes of a convolution, from x (N,H,W,C), y (N,OH,OW,O) and its attributes. */
typedef struct ConvSize {
    int64_t n, h, w, c, oh, ow, o;
    ConvAttr a;
} ConvSize;

static ConvSize conv_size(const KernelCall *call, const RefTensor *x, const RefTensor *y)
{
    const int64_t *i = x->shape.dim, *o = y->shape.dim;
    return (ConvSize){i[0], i[1], i[2], i[3], o[1], o[2], o[3], call->op->attr.conv};
}

/* y[n,oh,ow,o] = b[o] + residual + sum over kh, kw, c of x[n, oh stride + kh - pad, ..., c] w[o,kh,kw,c] */
static Status conv2d_run(const KernelCall *call)
{
    const RefTensor x = ref_in(call, 0), w = ref_in(call, 1), b = ref_in_optional(call, 2);
    const RefTensor residual = ref_in_optional(call, 3), y = ref_out(call, 0);
    const ConvSize s = conv_size(call, &x, &y);
    for (int64_t n = 0; n < s.n; n++) {
        for (int64_t oh = 0; oh < s.oh; oh++) {
            for (int64_t ow = 0; ow < s.ow; ow++) {
                for (int64_t o = 0; o < s.o; o++) {
                    const int64_t at = ((n * s.oh + oh) * s.ow + ow) * s.o + o;
                    double sum = ref_get(&b, o);
                    for (int64_t kh = 0; kh < s.a.kh; kh++) {
                        const int64_t ih = oh * s.a.stride + kh - s.a.pad_top;
                        if (ih < 0 || ih >= s.h) continue;
                        for (int64_t kw = 0; kw < s.a.kw; kw++) {
                            const int64_t iw = ow * s.a.stride + kw - s.a.pad_left;
                            if (iw < 0 || iw >= s.w) continue;
                            sum += ref_dot(&x, ((n * s.h + ih) * s.w + iw) * s.c, &w,
                                           ((o * s.a.kh + kh) * s.a.kw + kw) * s.c, s.c);
                        }
                    }
                    ref_put(&y, at, sum + ref_get(&residual, at));
                }
            }
        }
    }
    return STATUS_OK;
}

/* The output row or column that reads input position `in` through tap `k`, or -1. */
static int64_t reader(int64_t in, int64_t k, int32_t pad, int32_t stride, int64_t length)
{
    const int64_t at = in + pad - k;
    return at >= 0 && at % stride == 0 && at / stride < length ? at / stride : -1;
}

/* dx[n,h,w,c] = sum over the (oh,kh), (ow,kw) that read (h,w), and o, of dy[n,oh,ow,o] w[o,kh,kw,c] */
static Status conv2d_grad_x_run(const KernelCall *call)
{
    const RefTensor w = ref_in(call, 0), dy = ref_in(call, 1), dx = ref_out(call, 0);
    const ConvSize s = conv_size(call, &dx, &dy);
    const int64_t w_pitch = (int64_t)s.a.kh * s.a.kw * s.c; /* from one output channel to the next */
    for (int64_t n = 0; n < s.n; n++) {
        for (int64_t h = 0; h < s.h; h++) {
            for (int64_t wide = 0; wide < s.w; wide++) {
                for (int64_t c = 0; c < s.c; c++) {
                    double sum = 0;
                    for (int64_t kh = 0; kh < s.a.kh; kh++) {
                        const int64_t oh = reader(h, kh, s.a.pad_top, s.a.stride, s.oh);
                        if (oh < 0) continue;
                        for (int64_t kw = 0; kw < s.a.kw; kw++) {
                            const int64_t ow = reader(wide, kw, s.a.pad_left, s.a.stride, s.ow);
                            if (ow < 0) continue;
                            const int64_t dy_at = ((n * s.oh + oh) * s.ow + ow) * s.o;
                            const int64_t w_at = (kh * s.a.kw + kw) * s.c + c;
                            for (int64_t o = 0; o < s.o; o++) {
                                sum += ref_get(&dy, dy_at + o) * ref_get(&w, w_at + o * w_pitch);
                            }
                        }
                    }
                    ref_put(&dx, ((n * s.h + h) * s.w + wide) * s.c + c, sum);
                }
            }
        }
    }
    return STATUS_OK;
}

/* dw[o,kh,kw,c] for one o, kh, kw, c */
static double weight_gradient(const ConvSize *s, const RefTensor *x, const RefTensor *dy, int64_t o, int64_t kh,
                              int64_t kw, int64_t c)
{
    double sum = 0;
    for (int64_t n = 0; n < s->n; n++) {
        for (int64_t oh = 0; oh < s->oh; oh++) {
            const int64_t ih = oh * s->a.stride + kh - s->a.pad_top;
            if (ih < 0 || ih >= s->h) continue;
            for (int64_t ow = 0; ow < s->ow; ow++) {
                const int64_t iw = ow * s->a.stride + kw - s->a.pad_left;
                if (iw < 0 || iw >= s->w) continue;
                sum += ref_get(dy, ((n * s->oh + oh) * s->ow + ow) * s->o + o) *
                       ref_get(x, ((n * s->h + ih) * s->w + iw) * s->c + c);
            }
        }
    }
    return sum;
}

/* dw[o,kh,kw,c] = sum over n, oh, ow of dy x;   db[o] = sum of dy */
static Status conv2d_grad_w_run(const KernelCall *call)
{
    const RefTensor x = ref_in(call, 0), dy = ref_in(call, 1), dw = ref_out(call, 0), db = ref_out(call, 1);
    const ConvSize s = conv_size(call, &x, &dy);
    int64_t at = 0;
    for (int64_t o = 0; o < s.o && dw.data; o++) {
        for (int64_t kh = 0; kh < s.a.kh; kh++) {
            for (int64_t kw = 0; kw < s.a.kw; kw++) {
                for (int64_t c = 0; c < s.c; c++) ref_put(&dw, at++, weight_gradient(&s, &x, &dy, o, kh, kw, c));
            }
        }
    }
    for (int64_t o = 0; o < s.o && db.data; o++) {
        double sum = 0;
        for (int64_t row = 0; row < s.n * s.oh * s.ow; row++) sum += ref_get(&dy, row * s.o + o);
        ref_put(&db, o, sum);
    }
    return STATUS_OK;
}

const Kernel ref_kernel_CONV2D = {.run = conv2d_run};
const Kernel ref_kernel_CONV2D_GRAD_X = {.run = conv2d_grad_x_run};
const Kernel ref_kernel_CONV2D_GRAD_W = {.run = conv2d_grad_w_run};
