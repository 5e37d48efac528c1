/* Ops: what each row of ops.def provides, and its attributes. */
#ifndef ENGINE_OP_H
#define ENGINE_OP_H

#include "base/status.h"
#include "base/random.h"
#include "engine/tensor.h"

typedef enum OpKind {
#define OP(NAME, family) OP_##NAME,
#include "engine/ops.def"
#undef OP
    OP_COUNT
} OpKind;

typedef int32_t TensorId;
#define TENSOR_NONE ((TensorId)-1)

#define OP_MAX_IN 8
#define OP_MAX_OUT 4

typedef enum Activation { ACT_NONE, ACT_SILU, ACT_GELU, ACT_GELU_TANH } Activation;
typedef enum ResampleMode { RESAMPLE_UP2_NEAREST, RESAMPLE_DOWN2_AVERAGE } ResampleMode;

typedef enum RoundTo { ROUND_F16, ROUND_BF16 } RoundTo;

typedef struct ConvAttr {
    int32_t kh, kw, stride, pad_top, pad_left, pad_bottom, pad_right;
} ConvAttr;
typedef struct LinearAttr {
    Activation act; /* applied after bias and before the residual; only where no gradient is wanted */
} LinearAttr;
typedef struct NormAttr {
    int32_t groups; /* group norm only */
    float eps;
    Activation act; /* ACT_NONE or ACT_SILU; group norm only */
} NormAttr;
typedef struct AttentionAttr {
    int32_t heads, head_dim;
    float scale; /* of q.k */
} AttentionAttr;
typedef struct ElementwiseAttr {
    Activation act;
    float scale, shift; /* AFFINE: y = scale x + shift */
    RoundTo round;      /* ROUND */
} ElementwiseAttr;
typedef struct ResampleAttr {
    ResampleMode mode;
} ResampleAttr;
typedef struct SliceAttr {
    int32_t axis;
    int64_t begin; /* CONCAT ignores it; SLICE takes [begin, begin + output's length) of the axis */
} SliceAttr;
typedef struct TextAttr {
    int32_t padding_id;   /* POSITION_IDS */
    int32_t max_distance; /* RELATIVE_BIAS */
} TextAttr;
typedef struct DiffusionAttr {
    float max_period;      /* TIMESTEP_EMBEDDING */
    uint64_t seed;         /* NOISE */
    RandomPurpose purpose; /* NOISE */
    float loss_scale;      /* DIFFUSION_LOSS_GRAD: d(total)/d(per-sample loss), i.e. 1 / global batch */
    float vb_weight;       /* DIFFUSION_LOSS: num_timesteps / 1000 for RESCALED_MSE */
    float latent_scale;    /* POSTERIOR_SAMPLE */
} DiffusionAttr;

typedef union OpAttr {
    ConvAttr conv;
    LinearAttr linear;
    NormAttr norm;
    AttentionAttr attention;
    ElementwiseAttr elementwise;
    ResampleAttr resample;
    SliceAttr slice;
    TextAttr text;
    DiffusionAttr diffusion;
} OpAttr;

typedef struct Op {
    OpKind kind;
    int32_t in_count, out_count;
    TensorId in[OP_MAX_IN];   /* TENSOR_NONE where an optional input is absent */
    TensorId out[OP_MAX_OUT]; /* TENSOR_NONE where an output is not wanted (gradient ops only) */
    uint32_t accumulate;      /* bit k: out[k] is added to, not set (gradient ops only) */
    OpAttr attr;
    int32_t segment;    /* recomputation segment of a forward op, -1 outside any */
    int32_t forward;    /* gradient ops and recomputed copies: the index of the forward op; else -1 */
    bool is_backward;   /* appended by graph_backward (recomputed copies included) */
    bool is_recomputed; /* a copy of a forward op, run again in backward instead of keeping its outputs */
} Op;

typedef struct OpCost {
    double flops; /* multiply-adds count two; elementwise work of norms and activations is not counted */
    double bytes; /* compulsory traffic: each operand once */
} OpCost;

struct Graph;
struct Backward;

typedef struct OpInfo {
    const char *name;
    /* Appends the gradient ops of `op` through the functions of engine/backward.h. NULL: no gradient (and asking for
     * one is an error at graph_backward). */
    Status (*gradient)(struct Backward *b, const Op *op);
    OpCost (*cost)(const struct Graph *graph, const Op *op);
} OpInfo;

const OpInfo *op_info(OpKind kind);

/* Whether the op is a convolution whose weights are computed, such as a slice of a parameter: then their packed form is
 * made in scratch at every run, however other weights are packed. */
bool op_weights_are_computed(const struct Graph *graph, const Op *op);

/* RELATIVE_BIAS: the bucket of a key `distance` rows after its query; shared by the backends so that they agree on the
 * distances that lie on a boundary. */
int64_t op_relative_bucket(int64_t distance, int64_t buckets, int32_t max_distance);

#endif
