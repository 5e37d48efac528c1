/* Constructors of the ops. Shapes beside each; [x] marks an optional input (TENSOR_NONE). Activations are F32 or BF16
 * (all activations of one op alike, outputs the same unless said); parameters F32 always. Statistics are F32.
 * Each constructor checks shapes and records a failure in the graph that names the tensors. */
#ifndef ENGINE_OPS_H
#define ENGINE_OPS_H

#include "engine/graph.h"

/* CONV2D: x (N,H,W,C), w (O,KH,KW,C), [b (O)], [residual (N,OH,OW,O)] -> y (N,OH,OW,O) = conv(x, w) + b + residual.
 * w may be computed, such as a slice of a parameter: it is then packed at every run.
 * OH = (H + pad_top + pad_bottom - KH) / stride + 1. */
TensorId op_conv2d(Graph *g, TensorId x, TensorId w, TensorId b, TensorId residual, ConvAttr attr);
ConvAttr conv_same(int32_t kernel); /* stride 1, padding kernel/2 */
/* The same op as a transposed convolution: dy (N,OH,OW,O), w (O,KH,KW,C) -> (N,H,W,C), H and W given. This is
 * CONV2D_GRAD_X used forward; it has no gradient of its own. */
TensorId op_conv2d_transposed(Graph *g, TensorId dy, TensorId w, int64_t height, int64_t width, ConvAttr attr);
/* CONV2D_GRAD_X: in w, dy; out dx.   CONV2D_GRAD_W: in x, dy; out dw, [db]. */

/* LINEAR: x (...,C), w (O,C), [b (O)], [residual (...,O)] -> y (...,O) = act(x w^T + b) + residual.
 * Where a gradient is wanted and act is not NONE, the constructor appends an ACTIVATION op of its own instead. */
TensorId op_linear(Graph *g, TensorId x, TensorId w, TensorId b, TensorId residual, Activation act);
/* LINEAR_GRAD_X: in w, dy; out dx.   LINEAR_GRAD_W: in x, dy; out dw, [db]. */

/* GROUP_NORM: x (N,H,W,C) or (N,T,C), gamma (C), beta (C), [scale_shift (N,2C): scale then shift]
 *   -> y like x, stats (N,G,2: mean, rstd).   v = (x - mean) rstd gamma + beta; v = v (1 + scale) + shift; y = act(v).
 * Statistics over the positions and the C/G channels of a group, biased variance, eps inside the root. */
TensorId op_group_norm(Graph *g, TensorId x, TensorId gamma, TensorId beta, TensorId scale_shift, int32_t groups,
                       float eps, Activation act);
/* GROUP_NORM_GRAD: in x, dy, gamma, beta, stats, [scale_shift]; out dx, dgamma, dbeta, [dscale_shift]. */

/* LAYER_NORM: x (...,C), gamma (C), beta (C) -> y (...,C), stats (rows,2: mean, rstd). */
TensorId op_layer_norm(Graph *g, TensorId x, TensorId gamma, TensorId beta, float eps);
/* LAYER_NORM_GRAD: in x, dy, gamma, stats; out dx, dgamma, dbeta. */
/* RMS_NORM: x (...,C), gamma (C) -> y (...,C) = x / sqrt(mean over C of x^2 + eps) gamma
 * (Zhang & Sennrich 2019). No gradient: only frozen encoders have it. */
TensorId op_rms_norm(Graph *g, TensorId x, TensorId gamma, float eps);

/* ATTENTION, self-attention over image rows with text rows put before the keys:
 *   qkv (N,T,3*heads*d), per head [q d | k d | v d];  [context (N,S,2*heads*d)], per head [k d | v d];
 *   [context_mask I32 (N,S): 0 hides that context row]
 *   -> y (N,T,heads*d), lse (N,heads,T).    keys = [context ; self], softmax in fp32, scale 1/sqrt(d).
 * Hidden rows get no weight and a gradient of zero. */
TensorId op_attention(Graph *g, TensorId qkv, TensorId context, TensorId context_mask, int32_t heads);
/* ATTENTION_GRAD: in qkv, [context], [context_mask], y, lse, dy; out dqkv, [dcontext]. */

/* CROSS_ATTENTION, separate operands: q (N,T,heads*d), k (N,S,heads*d), v (N,S,heads*d), [key_mask I32 (N,S): 0 hides],
 *   [bias F32 (heads,T,S), added to the scaled scores] -> y (N,T,heads*d), lse (N,heads,T).
 * A row whose keys are all hidden gives zeros, and 0 as its lse (elsewhere: natural log of the sum of exp of the
 * scores). `scale` <= 0 means 1/sqrt(d). */
TensorId op_cross_attention(Graph *g, TensorId q, TensorId k, TensorId v, TensorId key_mask, TensorId bias,
                            int32_t heads, float scale);
/* CROSS_ATTENTION_GRAD: in q, k, v, [key_mask], y, lse, dy; out dq, dk, dv. Only without bias; q, k and v must differ.
 */

/* ACTIVATION: x -> act(x).   ACTIVATION_GRAD: in x, dy; out dx. */
TensorId op_activation(Graph *g, TensorId x, Activation act);
/* ADD: a, b of one shape -> a + b. Gradient: dy passes to both. */
TensorId op_add(Graph *g, TensorId a, TensorId b);
/* MULTIPLY: a, b of one shape -> a b, element by element. Gradient: MULTIPLY of dy and the other factor. */
TensorId op_multiply(Graph *g, TensorId a, TensorId b);
/* AFFINE: y = scale x + shift.   AFFINE_GRAD: in dy; out dx = scale dy. */
TensorId op_affine(Graph *g, TensorId x, float scale, float shift);
/* CAST: to another float dtype, or a copy. Gradient: CAST back. */
TensorId op_cast(Graph *g, TensorId x, Dtype dtype);
/* ROUND: x F32 -> F32, each value the nearest of IEEE half precision or of bfloat16, ties to even; what lies beyond the
 * largest becomes infinite, as IEEE 754 has it. No gradient. */
TensorId op_round(Graph *g, TensorId x, RoundTo to);

/* RESAMPLE: x (N,H,W,C) -> (N,2H,2W,C) nearest, or (N,H/2,W/2,C) mean of 2x2.   RESAMPLE_GRAD: in dy; out dx. */
TensorId op_resample(Graph *g, TensorId x, ResampleMode mode);

/* CONCAT along `axis` of 2 to OP_MAX_IN tensors.   Gradient: a SLICE of dy for each.
 * SLICE: [begin, begin + length) of an axis.   SLICE_GRAD: in dy; out dx, zero outside the slice (when it sets). */
TensorId op_concat(Graph *g, const TensorId *parts, int32_t count, int32_t axis);
TensorId op_slice(Graph *g, TensorId x, int32_t axis, int64_t begin, int64_t length);

/* EMBEDDING: ids I32 (N,T), table (V,D), [positions (P,D), P >= T] -> (N,T,D) = table[id] + positions[t], in `dtype`.
 * Ids outside [0,V) read row 0 (the data room refuses them earlier). No gradient: the tables are frozen. */
TensorId op_embedding(Graph *g, TensorId ids, TensorId table, TensorId positions, Dtype dtype);
/* MASKED_MEAN: x (N,T,D), mask I32 (N,T) -> (N,D), the mean over rows with mask != 0 (zeros when there are none). */
TensorId op_masked_mean(Graph *g, TensorId x, TensorId mask);
/* POSITION_IDS: ids I32 (N,T) -> I32 (N,T), RoBERTa's positions: padding_id where the id is padding_id, elsewhere
 * padding_id + the count of other ids up to and including t. */
TensorId op_position_ids(Graph *g, TensorId ids, int32_t padding_id);
/* RELATIVE_BIAS: table (buckets,heads), 4 buckets or more -> F32 (heads,rows,rows), T5's bidirectional distances:
 * bias[h][i][j] = table[bucket(j - i)][h]. The first half of the buckets is for j <= i. In each half the first half are
 * the exact distances and the rest grow with the logarithm up to max_distance, beyond which all share the last (Raffel
 * et al. 2020, section 2.1). */
TensorId op_relative_bias(Graph *g, TensorId table, int64_t rows, int32_t max_distance);

/* TIMESTEP_EMBEDDING: t F32 (N) -> F32 (N,C), C even: [cos(t f_k) | sin(t f_k)], f_k = max_period^(-k/(C/2)). */
TensorId op_timestep_embedding(Graph *g, TensorId t, int64_t channels, float max_period);
/* NOISE: index I32 (N,2: low, high word of the global sample index) -> F32 of `shape` (first dimension N): standard
 * normals random_normal(seed, purpose, index, element within the sample in N,H,W,C order). */
TensorId op_noise(Graph *g, TensorId index, Shape shape, uint64_t seed, RandomPurpose purpose);
/* POSTERIOR_SAMPLE: moments F32 (N,h,w,2C: mean, then log variance), [noise F32 (N,h,w,C)] -> F32 (N,h,w,C)
 *   = scale (mean + exp(clamp(log variance, -30, 20) / 2) noise); without noise, the scaled mean. No gradient. */
TensorId op_posterior_sample(Graph *g, TensorId moments, TensorId noise, float scale);
/* Q_SAMPLE: x0 F32 (N,H,W,C), noise like it, t F32 (N), table F32 (T,8) -> x_t = table[t][0] x0 + table[t][1] noise.
 * t is rounded to the nearest integer and clamped to [0,T). The table's columns (model/diffusion.h fills it):
 *   0 sqrt(alpha_bar)  1 sqrt(1 - alpha_bar)  2 posterior mean coefficient of x0  3 ... of x_t
 *   4 log posterior variance, clipped  5 log beta  6 sqrt(1 / alpha_bar)  7 sqrt(1 / alpha_bar - 1). */
TensorId op_q_sample(Graph *g, TensorId x0, TensorId noise, TensorId t, TensorId table);
/* INPAINT_INPUT: x_t F32 (N,H,W,C), x0 like it, keep F32 (N,H,W): 1 where the picture is known, 0 where it is to be
 * painted -> F32 (N,H,W,2C+1) = [x_t | x0 keep | keep], what an inpainting network is given; where keep is not above 0,
 * x0 keep is 0 whatever x0 is. No gradient. */
TensorId op_inpaint_input(Graph *g, TensorId x_t, TensorId x0, TensorId keep);
/* DIFFUSION_LOSS, the hybrid loss with learned-range variance (Nichol & Dhariwal 2021, RESCALED_MSE):
 *   out F32 (N,H,W,2C: eps then variance fraction v), x0, x_t, noise F32 (N,H,W,C), t F32 (N), table F32 (T,8)
 *   -> terms F32 (N,2: mse, vb).   Per sample: mse = mean (eps - noise)^2; vb = vb_weight * (t > 0: KL of the true and
 * the modelled posterior; t = 0: discretised Gaussian NLL), in bits, mean over elements; the model's mean inside vb
 * carries no gradient. The objective is loss_scale * sum over samples of (mse + vb).
 * DIFFUSION_LOSS_GRAD: same inputs; out d(out). */
TensorId op_diffusion_loss(Graph *g, TensorId out, TensorId x0, TensorId x_t, TensorId noise, TensorId t,
                           TensorId table, float loss_scale, float vb_weight);

#endif
