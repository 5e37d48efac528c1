/* 3x3 convolutions of stride 1 in fp32 by Winograd's minimal filtering F(2x2, 3x3) (Lavin & Gray 2015): for each tile
 * of 2x2 outputs 16 products instead of 36, as 16 matrix products over tiles and channels.
 *
 *   forward   y = A^T [ sum_c (G w G^T) * (B^T x B) ] A         x tiles 4x4, every 2 pixels
 *   weights   dw = G^T [ sum_tiles (B^T x B) * (A dy A^T) ] G
 *
 * The input's gradient is the forward form with the weights turned round and their channels exchanged. The transforms
 * only add and halve; the rounding error is a few times that of the direct sum. */
#ifndef ENGINE_CPU_WINOGRAD_H
#define ENGINE_CPU_WINOGRAD_H

#include "engine/cpu/cpu.h"

typedef enum WinogradKind { WINOGRAD_FORWARD, WINOGRAD_INPUT_GRADIENT, WINOGRAD_WEIGHT_GRADIENT } WinogradKind;

/* x (samples,h,w,c) and y (samples,oh,ow,o) are those of the forward convolution, whatever the kind. */
typedef struct WinogradShape {
    int64_t samples, h, w, c, oh, ow, o, pad_top, pad_left;
} WinogradShape;

typedef struct Winograd Winograd;

/* Whether this is the faster way: enough channels and tiles, and transformed weights of a moderate size. */
bool winograd_suits(const Cpu *cpu, WinogradKind kind, const WinogradShape *shape);
Status winograd_create(const Cpu *cpu, WinogradKind kind, const WinogradShape *shape, Winograd **out);
void winograd_free(Winograd *plan);
size_t winograd_workspace_bytes(const Winograd *plan);
size_t winograd_packed_bytes(const Winograd *plan); /* transformed weights; 0 for their gradient */
const char *winograd_detail(const Winograd *plan);

/* Transforms weights w (o,3,3,c). */
Status winograd_pack(Winograd *plan, const float *w, void *packed, void *workspace);
/* FORWARD and INPUT_GRADIENT: to = the convolution of `from` [+ bias] [+ add]; `add`, like `to`, may be `to` itself. */
Status winograd_run(Winograd *plan, const float *from, const void *packed, const float *bias, const float *add,
                    float *to, void *workspace);
/* WEIGHT_GRADIENT: dw (o,3,3,c) = or += */
Status winograd_run_weights(Winograd *plan, const float *x, const float *dy, float *dw, bool accumulate,
                            void *workspace);

#endif
