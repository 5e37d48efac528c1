/* Stand-in for CUDA's header of the same name; the language itself comes from ../cuda_emu.h. */
#ifndef TESTS_EMU_CUDA_RUNTIME_H
#define TESTS_EMU_CUDA_RUNTIME_H

#include "cuda_runtime_api.h"
#ifdef __cplusplus
#include "vector_functions.h"
#endif

#endif
