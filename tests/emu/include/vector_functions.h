/* Stand-in for CUDA's make_TYPEn. C++ only: kernels use them. */
#ifndef TESTS_EMU_VECTOR_FUNCTIONS_H
#define TESTS_EMU_VECTOR_FUNCTIONS_H

#include "vector_types.h"

#define EMU_MAKE(type, name)                                             \
    static inline name##1 make_##name##1(type x)                         \
    {                                                                    \
        return name##1 {x};                                              \
    }                                                                    \
    static inline name##2 make_##name##2(type x, type y)                 \
    {                                                                    \
        return name##2 {x, y};                                           \
    }                                                                    \
    static inline name##3 make_##name##3(type x, type y, type z)         \
    {                                                                    \
        return name##3 {x, y, z};                                        \
    }                                                                    \
    static inline name##4 make_##name##4(type x, type y, type z, type w) \
    {                                                                    \
        return name##4 {x, y, z, w};                                     \
    }

EMU_MAKE(signed char, char)
EMU_MAKE(unsigned char, uchar)
EMU_MAKE(short, short)
EMU_MAKE(unsigned short, ushort)
EMU_MAKE(int, int)
EMU_MAKE(unsigned int, uint)
EMU_MAKE(long long int, longlong)
EMU_MAKE(unsigned long long int, ulonglong)
EMU_MAKE(float, float)
EMU_MAKE(double, double)
#undef EMU_MAKE

#endif
