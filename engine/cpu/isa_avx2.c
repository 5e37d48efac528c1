/* The vector kernels for x86-64-v3: 8 floats a vector. */
#define VL 8
#define ISA_NAME "avx2"
#define ISA_TABLE vector_kernels_avx2
#include "engine/cpu/vector_tmpl.h"
