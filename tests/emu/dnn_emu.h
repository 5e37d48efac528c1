/* What dnn_emu.c queues. Operands are in device memory, which is open while these run. */
#ifndef TESTS_EMU_DNN_EMU_H
#define TESTS_EMU_DNN_EMU_H

#include "engine/cuda/dnn.h"

void emu_conv(const DnnConvSpec *spec, const DnnConvArgs *args);
void emu_attention(const DnnAttentionSpec *spec, const DnnAttentionArgs *args);
void emu_attention_grad(const DnnAttentionSpec *spec, const DnnAttentionArgs *args);

#endif
