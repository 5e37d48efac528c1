/* CUDA C++ kernels on a processor: g++ -std=c++17 -include tests/emu/cuda_emu.h -Itests/emu/include -x c++ FILE.cu
 * compiles what engine/cuda/language.h allows. Every thread of a block is a fiber; a barrier, shuffle or vote passes
 * the turn to the next one (threads.h, block.cc). Launches, copies and memory: include/cuda_runtime_api.h,
 * runtime_*.cc.
 *
 * What it finds, in the order of VASILY_EMU_SCHEDULE (forward, reverse, random with VASILY_EMU_SEED):
 *   missing barriers        wrong results in one of the schedules; shared memory starts as NaN in every block
 *   divergent barriers      a message with kernel, block and the threads that wait, then abort
 *   out-of-bounds accesses  where compiled with -fsanitize=address. Shared arrays have guards too, where the function
 *                           they are in is static
 *   host pointers           an argument that points to memory the device cannot reach: a message, then abort
 *   bad launches            a message with the kernel's name; cudaPeekAtLastError tells */
#ifndef TESTS_EMU_CUDA_EMU_H
#define TESTS_EMU_CUDA_EMU_H

#define CUDA_EMU 1

#include <assert.h>
#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "include/cuda_runtime.h"
#include "include/cuda_bf16.h"
#include "threads.h"
#include "intrinsics.h"

#define __global__
#define __device__
#define __host__
#define __constant__ static
#define __launch_bounds__(...)
#define __grid_constant__
#define __forceinline__ inline __attribute__((always_inline))
#define __align__(n) __attribute__((aligned(n)))
#define __restrict __restrict__

/* One copy for each thread that runs blocks; AddressSanitizer guards plain variables only, and no further aligned ones,
 * so with it one thread runs all blocks. Over-aligned so that shared.cc knows them: other static variables inside the
 * functions of a .cu file may look the same. */
#ifdef EMU_ASAN
#define __shared__ static __attribute__((aligned(EMU_SHARED_ALIGNMENT)))
#else
#define __shared__ static __thread __attribute__((aligned(EMU_SHARED_ALIGNMENT)))
#endif
#define DYNAMIC_SHARED(type, name) type *name = static_cast<type *>(emu::current->block->dynamic_shared)

#define threadIdx (emu::current->index)
#define blockIdx (emu::current->block->index)
#define blockDim (emu::current->block->size)
#define gridDim (emu::current->block->grid)
#define warpSize 32

/* The kernel's template arguments are all written out. Arguments are converted and copied here and now. */
#define LAUNCH(kernel, grid, block, shared, stream, ...) \
    emu::launch(#kernel, (grid), (block), (shared), (stream), &emu::touch_thread_variables, kernel, __VA_ARGS__)

#endif
