/* The vector kernels for x86-64: 4 floats a vector. */
#define VL 4
#define ISA_NAME "sse2"
#define ISA_TABLE vector_kernels_sse2
#include "engine/cpu/vector_tmpl.h"
