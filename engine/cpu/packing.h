/* Weights into oneDNN's own layouts and their gradients back, faster than the library does it: its reorders read plain
 * weights at a fraction of the memory's bandwidth, and with PLAN_PACK_SCRATCH every op's are reordered at every run.
 *
 * Known here are blocked layouts of bf16 in which pairs of one dimension lie together ("ABcd8a16b2a", "BA16a64b2a",
 * "AcdB32a2b") and of fp32 in squares of 16 ("ABcd16b16a"), with whole blocks. Everything else goes to the library. */
#ifndef ENGINE_CPU_PACKING_H
#define ENGINE_CPU_PACKING_H

#include "engine/cpu/cpu.h"
#include "engine/cpu/onednn.h"

/* As dnn_pack and dnn_unpack. */
Status cpu_pack(const Cpu *cpu, DnnPrimitive *primitive, const float *plain, void *packed, void *scratchpad);
Status cpu_unpack(const Cpu *cpu, DnnPrimitive *primitive, const void *packed, float *plain, bool add,
                  void *scratchpad);

#endif
