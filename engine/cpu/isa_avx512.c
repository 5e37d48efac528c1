/* The vector kernels for x86-64-v4: 16 floats a vector. */
#define VL 16
#define ISA_NAME "avx512"
#define ISA_TABLE vector_kernels_avx512
#include "engine/cpu/vector_tmpl.h"
