/* Convolutions. */
#include <stdio.h>

#include "engine/cuda/cuda.h"
#include "engine/cuda/dnn_inside.h"

enum { X = 1, W, Y, BIAS, RESIDUAL, PRODUCT };

static DnnWindow window_of(const ConvAttr *a)
{
    return (DnnWindow){{a->stride, a->stride}, {a->pad_top, a->pad_left}, {a->pad_bottom, a->pad_right}};
}

/* x (N,H,W,C), w (O,KH,KW,C), y (N,OH,OW,O) */
static DnnDesc x_of(DnnGraph *g, const DnnConvSpec *s, int64_t uid, cudnnDataType_t type)
{
    return dnn_picture(g, uid, type, s->n, s->c, s->h, s->w);
}
static DnnDesc w_of(DnnGraph *g, const DnnConvSpec *s, int64_t uid, cudnnDataType_t type)
{
    return dnn_picture(g, uid, type, s->o, s->c, s->attr.kh, s->attr.kw);
}
static DnnDesc y_of(DnnGraph *g, const DnnConvSpec *s, int64_t uid, cudnnDataType_t type)
{
    return dnn_picture(g, uid, type, s->n, s->o, s->oh, s->ow);
}

/* y = from [+ residual] [+ bias]. In this order cuDNN has engines ready; in the other it compiles one for each shape.
 */
static void append_sums(DnnGraph *g, const DnnConvSpec *s, DnnDesc from)
{
    const cudnnDataType_t type = dnn_type(s->type);
    if (s->residual) {
        DnnDesc sum = y_of(g, s, s->bias ? 0 : Y, s->bias ? CUDNN_DATA_FLOAT : type);
        dnn_pointwise(g, CUDNN_POINTWISE_ADD, from, y_of(g, s, RESIDUAL, type), sum);
        from = sum;
    }
    if (s->bias)
        dnn_pointwise(g, CUDNN_POINTWISE_ADD, from, dnn_picture(g, BIAS, type, 1, s->o, 1, 1), y_of(g, s, Y, type));
}

/* Adds a step for the product; fused: with the sums. */
static Status add_forward(DnnPlan *plan, const DnnConvSpec *s, bool fused)
{
    DnnGraph g = {0};
    const DnnWindow window = window_of(&s->attr);
    const cudnnDataType_t type = dnn_type(s->type);
    const bool sums = s->bias || s->residual;
    DnnDesc y = fused && sums ? y_of(&g, s, 0, CUDNN_DATA_FLOAT) : y_of(&g, s, sums ? PRODUCT : Y, type);
    dnn_convolve(&g, DNN_FORWARD, &window, x_of(&g, s, X, type), w_of(&g, s, W, type), y);
    if (fused && sums) append_sums(&g, s, y);
    return dnn_plan_add(plan, &g, s->type == DTYPE_F32);
}

/* The second half of the design without fusion; the product lies in the workspace, in the type of y. */
static Status add_sums(DnnPlan *plan, const DnnConvSpec *s)
{
    DnnGraph g = {0};
    append_sums(&g, s, y_of(&g, s, PRODUCT, dnn_type(s->type)));
    return dnn_plan_add(plan, &g, s->type == DTYPE_F32);
}

static Status add_grad_x(DnnPlan *plan, const DnnConvSpec *s)
{
    DnnGraph g = {0};
    const DnnWindow window = window_of(&s->attr);
    const cudnnDataType_t type = dnn_type(s->type);
    dnn_convolve(&g, DNN_BACKWARD_DATA, &window, x_of(&g, s, X, type), w_of(&g, s, W, type), y_of(&g, s, Y, type));
    return dnn_plan_add(plan, &g, s->type == DTYPE_F32);
}

/* ---- the gradient of the weights ---- */

/* bf16 operands have no engine that writes fp32, but for those that go on with something: so the copy does. */
static Status add_grad_w(DnnPlan *plan, const DnnConvSpec *s)
{
    /* On sm_90 the heuristics of cuDNN 9.19 propose one engine with kernel 10, whatever the shape; these two take bf16
     * as well. */
    DnnGraph g = {.kernels = {3, 15}};
    const DnnWindow window = window_of(&s->attr);
    const cudnnDataType_t type = dnn_type(s->type);
    const bool direct = s->type == DTYPE_F32;
    DnnDesc product = w_of(&g, s, direct ? W : 0, CUDNN_DATA_FLOAT);
    dnn_convolve(&g, DNN_BACKWARD_FILTER, &window, x_of(&g, s, X, type), product, y_of(&g, s, Y, type));
    if (!direct) dnn_pointwise(&g, CUDNN_POINTWISE_IDENTITY, product, NULL, w_of(&g, s, W, CUDNN_DATA_FLOAT));
    return dnn_plan_add(plan, &g, s->type == DTYPE_F32);
}

/* Those engines want rows of channels that start at multiples of 8 bytes. Others are widened with zeros in the
 * workspace, and the weights' gradient, which is then wider too, is cut to size: the first and last convolutions of a
 * network, which are small. */
typedef struct Widened {
    void *x, *y; /* bf16; NULL: as they are */
    float *w;
} Widened;

static int64_t round_up(int64_t channels)
{
    return (channels + 7) / 8 * 8;
}

static Widened carve_widened(const DnnConvSpec *s, CudaCarver *carver)
{
    const int64_t c = round_up(s->c), o = round_up(s->o);
    Widened w = {0};
    if (c != s->c) w.x = cuda_carve(carver, (size_t)(s->n * s->h * s->w * c) * 2);
    if (o != s->o) w.y = cuda_carve(carver, (size_t)(s->n * s->oh * s->ow * o) * 2);
    w.w = cuda_carve(carver, (size_t)(o * s->attr.kh * s->attr.kw * c) * sizeof(float));
    return w;
}

static Status add_grad_w_widened(DnnPlan *plan, const DnnConvSpec *s)
{
    Status status = STATUS_OK;
    DnnConvSpec wide = *s;
    CudaCarver carver = {0};
    char design[96];
    wide.c = round_up(s->c);
    wide.o = round_up(s->o);
    TRY(add_grad_w(plan, &wide));
    plan->widened = true;
    carve_widened(s, &carver);
    snprintf(design, sizeof design, "conv grad w, %lld to %lld channels", (long long)wide.c, (long long)wide.o);
    dnn_plan_finish(plan, design, carver.used);
fail:
    return status;
}

static Status create_grad_w(DnnPlan *plan, const DnnConvSpec *s)
{
    Status status = STATUS_OK;
    const bool may_widen = s->type == DTYPE_BF16 && (s->c % 8 != 0 || s->o % 8 != 0);
    /* Fours are known to have engines, other numbers to have none, which takes long to find out. */
    if (may_widen && (s->c % 4 != 0 || s->o % 4 != 0)) return add_grad_w_widened(plan, s);
    status = add_grad_w(plan, s);
    if (status == ERR_UNSUPPORTED && may_widen) return add_grad_w_widened(plan, s);
    TRY(status);
    dnn_plan_finish(plan, "conv grad w", 0);
fail:
    return status;
}

/* rows of `from` columns of `size` bytes to rows of `to` columns: cut off, or filled up with zeros */
static Status copy_rows(const void *x, int64_t from, void *y, int64_t to, int64_t rows, size_t size,
                        cudaStream_t stream)
{
    Status status = STATUS_OK;
    const size_t x_pitch = (size_t)from * size, y_pitch = (size_t)to * size;
    if (to > from) TRY_CUDA(cudaMemsetAsync(y, 0, (size_t)rows * y_pitch, stream));
    TRY_CUDA(cudaMemcpy2DAsync(y, y_pitch, x, x_pitch, x_pitch < y_pitch ? x_pitch : y_pitch, (size_t)rows,
                               cudaMemcpyDeviceToDevice, stream));
fail:
    return status;
}

static Status run_widened(const DnnPlan *plan, const DnnConvArgs *args)
{
    Status status = STATUS_OK;
    const DnnConvSpec *s = &plan->conv;
    CudaCarver carver = {.base = (char *)args->workspace + plan->behind};
    const Widened w = carve_widened(s, &carver);
    const cudaStream_t stream = plan->dnn->stream;
    const int64_t c = round_up(s->c), o = round_up(s->o), taps = s->attr.kh * s->attr.kw;
    if (w.x) TRY(copy_rows(args->x, s->c, w.x, c, s->n * s->h * s->w, 2, stream));
    if (w.y) TRY(copy_rows(args->y, s->o, w.y, o, s->n * s->oh * s->ow, 2, stream));
    const DnnBinding bindings[] = {{X, w.x ? w.x : args->x}, {Y, w.y ? w.y : args->y}, {W, w.w}};
    TRY(dnn_step_run(plan->dnn, &plan->step[0], bindings, 3, args->workspace));
    TRY(copy_rows(w.w, c, args->out, s->c, s->o * taps, sizeof(float), stream)); /* the first s->o filters */
fail:
    return status;
}

/* ---- forward, in one step or two ---- */

static const char *sums_name(const DnnConvSpec *s)
{
    return s->residual ? s->bias ? "+residual+bias" : "+residual" : s->bias ? "+bias" : "";
}

static Status add_conv(DnnPlan *plan, const DnnConvSpec *s)
{
    Status status = STATUS_OK;
    char design[96];
    const bool sums = s->bias || s->residual;
    status = add_forward(plan, s, true);
    if (status == ERR_UNSUPPORTED && sums) {
        TRY(add_forward(plan, s, false));
        TRY(add_sums(plan, s));
        snprintf(design, sizeof design, "conv, then %s", sums_name(s));
        dnn_plan_finish(plan, design, (size_t)(s->n * s->oh * s->ow * s->o) * dtype_size(s->type));
        return STATUS_OK;
    }
    TRY(status);
    snprintf(design, sizeof design, "conv%s", sums_name(s));
    dnn_plan_finish(plan, design, 0);
fail:
    return status;
}

Status dnn_conv_create(Dnn *dnn, const DnnConvSpec *s, DnnPlan **out)
{
    static const char *const names[] = {"convolution", "gradient of a convolution's input",
                                        "gradient of a convolution's weights"};
    Status status = STATUS_OK;
    DnnPlan *plan = NULL;
    TRY(dnn_plan_create(dnn, &plan));
    plan->conv = *s;
    switch (s->kind) {
    case DNN_CONV:
        TRY(add_conv(plan, s));
        break;
    case DNN_CONV_GRAD_X:
        TRY(add_grad_x(plan, s));
        dnn_plan_finish(plan, "conv grad x", 0);
        break;
    case DNN_CONV_GRAD_W:
        TRY(create_grad_w(plan, s));
        break;
    }
    *out = plan;
    return STATUS_OK;
fail:
    status_prefix("%s, %lldx%lldx%lldx%lld to %lldx%lldx%lld, kernel %dx%d, stride %d, %s: ", names[s->kind],
                  (long long)s->n, (long long)s->h, (long long)s->w, (long long)s->c, (long long)s->oh,
                  (long long)s->ow, (long long)s->o, s->attr.kh, s->attr.kw, s->attr.stride, dtype_name(s->type));
    dnn_plan_free(plan);
    return status;
}

Status dnn_conv_run(const DnnPlan *plan, const DnnConvArgs *args)
{
    Status status = STATUS_OK;
    if (plan->widened) return run_widened(plan, args);
    /* What is written is the one that is not read; behind the steps' workspace lies the product of the first. */
    const void *product = plan->steps > 1 ? (char *)args->workspace + plan->behind : NULL;
    const DnnBinding bindings[] = {{X, args->x ? args->x : args->out}, {W, args->w ? args->w : args->out},
                                   {Y, args->y ? args->y : args->out}, {BIAS, args->bias},
                                   {RESIDUAL, args->residual},         {PRODUCT, product}};
    for (int32_t i = 0; i < plan->steps; i++)
        TRY(dnn_step_run(plan->dnn, &plan->step[i], bindings, (int32_t)(sizeof bindings / sizeof bindings[0]),
                         args->workspace));
fail:
    return status;
}
