/* Stand-in for CUDA's vector types: the ones that kernels move data in. C11 and C++. */
#ifndef TESTS_EMU_VECTOR_TYPES_H
#define TESTS_EMU_VECTOR_TYPES_H

/* A vector of two or four is aligned like one access of its size. */
#define EMU_VECTOR1(type, name) \
    struct name##1              \
    {                           \
        type x;                 \
    };                          \
    typedef struct name##1 name##1
#define EMU_VECTOR2(type, name)                               \
    struct __attribute__((aligned(2 * sizeof(type)))) name##2 \
    {                                                         \
        type x, y;                                            \
    };                                                        \
    typedef struct name##2 name##2
#define EMU_VECTOR3(type, name) \
    struct name##3              \
    {                           \
        type x, y, z;           \
    };                          \
    typedef struct name##3 name##3
#define EMU_VECTOR4(type, name)                                                       \
    struct __attribute__((aligned(sizeof(type) > 4 ? 16 : 4 * sizeof(type)))) name##4 \
    {                                                                                 \
        type x, y, z, w;                                                              \
    };                                                                                \
    typedef struct name##4 name##4
#define EMU_VECTORS(type, name) \
    EMU_VECTOR1(type, name);    \
    EMU_VECTOR2(type, name);    \
    EMU_VECTOR3(type, name);    \
    EMU_VECTOR4(type, name)

EMU_VECTORS(signed char, char);
EMU_VECTORS(unsigned char, uchar);
EMU_VECTORS(short, short);
EMU_VECTORS(unsigned short, ushort);
EMU_VECTORS(int, int);
EMU_VECTORS(unsigned int, uint);
EMU_VECTORS(long long int, longlong);
EMU_VECTORS(unsigned long long int, ulonglong);
EMU_VECTORS(float, float);
EMU_VECTORS(double, double);

#undef EMU_VECTORS
#undef EMU_VECTOR1
#undef EMU_VECTOR2
#undef EMU_VECTOR3
#undef EMU_VECTOR4

struct dim3 {
    unsigned int x, y, z;
#ifdef __cplusplus
    constexpr dim3(unsigned int vx = 1, unsigned int vy = 1, unsigned int vz = 1) : x(vx), y(vy), z(vz)
    {
    }
    constexpr dim3(uint3 v) : x(v.x), y(v.y), z(v.z)
    {
    }
    constexpr operator uint3() const
    {
        return uint3{x, y, z};
    }
#endif
};
typedef struct dim3 dim3;

#endif
