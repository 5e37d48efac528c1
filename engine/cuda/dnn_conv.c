/* Convolutions. */
#include <stdio.h>

#include "base/log.h"
#include "engine/cuda/dnn_inside.h"

enum { X = 1, W, Y, BIAS, RESIDUAL, ADDEND, PRODUCT };

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

/* y = from [+ residual] [+ bias]. In this order cuDNN has engines ready; in the other it compiles one for each shape. */
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

/* bf16 operands have no engine that writes fp32, but for those that go on with something: so the copy does. */
static Status add_grad_w(DnnPlan *plan, const DnnConvSpec *s)
{
    DnnGraph g = {0};
    const DnnWindow window = window_of(&s->attr);
    const cudnnDataType_t type = dnn_type(s->type);
    const bool direct = s->type == DTYPE_F32 && !s->add;
    DnnDesc product = w_of(&g, s, direct ? W : 0, CUDNN_DATA_FLOAT);
    dnn_convolve(&g, DNN_BACKWARD_FILTER, &window, x_of(&g, s, X, type), product, y_of(&g, s, Y, type));
    if (s->add)
        dnn_pointwise(&g, CUDNN_POINTWISE_ADD, product, w_of(&g, s, ADDEND, CUDNN_DATA_FLOAT),
                      w_of(&g, s, W, CUDNN_DATA_FLOAT));
    else if (!direct)
        dnn_pointwise(&g, CUDNN_POINTWISE_IDENTITY, product, NULL, w_of(&g, s, W, CUDNN_DATA_FLOAT));
    return dnn_plan_add(plan, &g, s->type == DTYPE_F32);
}

static const char *sums_name(const DnnConvSpec *s)
{
    return s->residual ? s->bias ? "+residual+bias" : "+residual" : s->bias ? "+bias" : "";
}

static Status add_conv(DnnPlan *plan, const DnnConvSpec *s)
{
    Status status = STATUS_OK;
    char design[64];
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
    switch (s->kind) {
    case DNN_CONV:
        TRY(add_conv(plan, s));
        break;
    case DNN_CONV_GRAD_X:
        TRY(add_grad_x(plan, s));
        dnn_plan_finish(plan, "conv grad x", 0);
        break;
    case DNN_CONV_GRAD_W:
        TRY(add_grad_w(plan, s));
        dnn_plan_finish(plan, s->add ? "conv grad w, added" : "conv grad w", 0);
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
    /* What is written is the one that is not read; behind the steps' workspace lies the product of the first. */
    const void *product = plan->steps > 1 ? (char *)args->workspace + plan->behind : NULL;
    const DnnBinding bindings[] = {{X, args->x ? args->x : args->out},
                                   {W, args->w ? args->w : args->out},
                                   {Y, args->y ? args->y : args->out},
                                   {BIAS, args->bias},
                                   {RESIDUAL, args->residual},
                                   {ADDEND, args->out},
                                   {PRODUCT, product}};
    for (int32_t i = 0; i < plan->steps; i++)
        TRY(dnn_step_run(plan->dnn, &plan->step[i], bindings, (int32_t)(sizeof bindings / sizeof bindings[0]),
                         args->workspace));
fail:
    return status;
}
