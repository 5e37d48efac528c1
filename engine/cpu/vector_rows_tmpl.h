/* Part of vector_tmpl.h: copies, elementwise kernels, sums of columns. */

INLINE void put(void *y, int64_t at, Dtype type, Vec value, bool accumulate)
{
    store(y, at, type, accumulate ? value + load(y, at, type) : value);
}

INLINE void put_part(void *y, int64_t at, Dtype type, Vec value, bool accumulate, int64_t count)
{
    store_part(y, at, type, accumulate ? value + load_part(y, at, type, count) : value, count);
}

INLINE void copy_row(const CopyRows *a, int64_t row, Dtype x_type, Dtype y_type)
{
    const int64_t x = row * a->x_pitch, y = row * a->y_pitch;
    const float scale = a->row_scale ? a->scale * a->row_scale[row] : a->scale;
    int64_t i = 0;
    for (; i + VL <= a->width; i += VL) put(a->y, y + i, y_type, scale * load(a->x, x + i, x_type), a->add);
    if (i < a->width) {
        const int64_t rest = a->width - i;
        put_part(a->y, y + i, y_type, scale * load_part(a->x, x + i, x_type, rest), a->add, rest);
    }
}

static void copy_rows(const CopyRows *a)
{
    if (a->x_type == a->y_type && !a->add && a->scale == 1.0f && !a->row_scale) {
        const size_t size = a->x_type == DTYPE_BF16 ? sizeof(Bf16) : sizeof(float);
        for (int64_t r = 0; r < a->rows; r++)
            memcpy((char *)a->y + (size_t)(r * a->y_pitch) * size, (const char *)a->x + (size_t)(r * a->x_pitch) * size,
                   (size_t)a->width * size);
    } else if (a->x_type == DTYPE_BF16 && a->y_type == DTYPE_BF16) {
        for (int64_t r = 0; r < a->rows; r++) copy_row(a, r, DTYPE_BF16, DTYPE_BF16);
    } else if (a->x_type == DTYPE_BF16) {
        for (int64_t r = 0; r < a->rows; r++) copy_row(a, r, DTYPE_BF16, DTYPE_F32);
    } else if (a->y_type == DTYPE_BF16) {
        for (int64_t r = 0; r < a->rows; r++) copy_row(a, r, DTYPE_F32, DTYPE_BF16);
    } else {
        for (int64_t r = 0; r < a->rows; r++) copy_row(a, r, DTYPE_F32, DTYPE_F32);
    }
}

/* A loop over `count` elements: VALUE(load) is the expression, in terms of the loads it makes at `i`. */
#define ELEMENTWISE(y, count, type, accumulate, VALUE)                                      \
    do {                                                                                    \
        int64_t i = 0;                                                                      \
        for (; i + VL <= (count); i += VL) put(y, i, type, VALUE(WHOLE, type), accumulate); \
        if (i < (count)) put_part(y, i, type, VALUE(PART, type), accumulate, (count)-i);    \
    } while (0)
#define WHOLE(memory, type) load(memory, i, type)
#define PART(memory, type) load_part(memory, i, type, count - i)

static void add(const void *a, const void *b, void *y, Dtype type, int64_t count, bool accumulate)
{
#define VALUE(GET, t) GET(a, t) + GET(b, t)
#define BODY(t) ELEMENTWISE(y, count, t, accumulate, VALUE)
    BY_TYPE(type, BODY);
#undef BODY
#undef VALUE
}

static void multiply(const void *a, const void *b, void *y, Dtype type, int64_t count, bool accumulate)
{
#define VALUE(GET, t) GET(a, t) * GET(b, t)
#define BODY(t) ELEMENTWISE(y, count, t, accumulate, VALUE)
    BY_TYPE(type, BODY);
#undef BODY
#undef VALUE
}

static void round_to(const float *x, float *y, int64_t count, RoundTo to)
{
    if (to == ROUND_BF16) {
#define VALUE(GET, t) widen(narrow(GET(x, t)))
        ELEMENTWISE(y, count, DTYPE_F32, false, VALUE);
#undef VALUE
    } else {
#define VALUE(GET, t) vec_round_half(GET(x, t))
        ELEMENTWISE(y, count, DTYPE_F32, false, VALUE);
#undef VALUE
    }
}

static void affine(const void *x, void *y, Dtype type, int64_t count, float scale, float shift, bool accumulate)
{
#define VALUE(GET, t) scale *GET(x, t) + shift
#define BODY(t) ELEMENTWISE(y, count, t, accumulate, VALUE)
    BY_TYPE(type, BODY);
#undef BODY
#undef VALUE
}

INLINE void activate_with(const void *x, void *y, Dtype type, int64_t count, Activation act)
{
#define VALUE(GET, t) vec_activate(GET(x, t), act)
#define BODY(t) ELEMENTWISE(y, count, t, false, VALUE)
    BY_TYPE(type, BODY);
#undef BODY
#undef VALUE
}

INLINE void activate_grad_with(const void *x, const void *dy, void *dx, Dtype type, int64_t count, Activation act,
                               bool accumulate)
{
#define VALUE(GET, t) GET(dy, t) * vec_activate_slope(GET(x, t), act)
#define BODY(t) ELEMENTWISE(dx, count, t, accumulate, VALUE)
    BY_TYPE(type, BODY);
#undef BODY
#undef VALUE
}

static void activate(const void *x, void *y, Dtype type, int64_t count, Activation act)
{
    switch (act) {
    case ACT_SILU:
        activate_with(x, y, type, count, ACT_SILU);
        break;
    case ACT_GELU:
        activate_with(x, y, type, count, ACT_GELU);
        break;
    case ACT_GELU_TANH:
        activate_with(x, y, type, count, ACT_GELU_TANH);
        break;
    default:
        activate_with(x, y, type, count, ACT_NONE);
        break;
    }
}

static void activate_grad(const void *x, const void *dy, void *dx, Dtype type, int64_t count, Activation act,
                          bool accumulate)
{
    switch (act) {
    case ACT_SILU:
        activate_grad_with(x, dy, dx, type, count, ACT_SILU, accumulate);
        break;
    case ACT_GELU:
        activate_grad_with(x, dy, dx, type, count, ACT_GELU, accumulate);
        break;
    case ACT_GELU_TANH:
        activate_grad_with(x, dy, dx, type, count, ACT_GELU_TANH, accumulate);
        break;
    default:
        activate_grad_with(x, dy, dx, type, count, ACT_NONE, accumulate);
        break;
    }
}
#undef WHOLE
#undef PART
#undef ELEMENTWISE

/* Column kernels go through the rows in chunks that stay in the first-level cache, and through a chunk by blocks of
 * columns whose sums stay in registers. Sums of a chunk are added to the total as one number, which also keeps the
 * rounding error that of a sum of a few hundred. */
INLINE int64_t chunk_rows(int64_t channels)
{
    const int64_t rows = 8192 / channels;
    return rows < 8 ? 8 : rows > 256 ? 256 : rows;
}

/* Calls STEP(vectors) for column blocks of 4 vectors, then 1, then LAST() for what is left. */
#define BY_COLUMNS(channels, STEP, LAST)                       \
    do {                                                       \
        int64_t c = 0;                                         \
        for (; c + 4 * VL <= (channels); c += 4 * VL) STEP(4); \
        for (; c + VL <= (channels); c += VL) STEP(1);         \
        if (c < (channels)) LAST();                            \
    } while (0)

INLINE void column_sums_block(const void *x, Dtype type, int64_t rows, int64_t pitch, float *sum, int vectors)
{
    Vec total[4] = {{0}};
    for (int64_t r = 0; r < rows; r++)
        for (int v = 0; v < vectors; v++) total[v] += load(x, r * pitch + v * VL, type);
    for (int v = 0; v < vectors; v++) put(sum, v * VL, DTYPE_F32, total[v], true);
}

INLINE const void *advance(const void *memory, int64_t elements, Dtype type)
{
    return (const char *)memory + elements * (type == DTYPE_BF16 ? 2 : 4);
}

INLINE void column_sums_chunk(const void *x, Dtype type, int64_t rows, int64_t channels, float *sum)
{
#define STEP(n) column_sums_block(advance(x, c, type), type, rows, channels, sum + c, n)
#define LAST()                         \
    for (int64_t r = 0; r < rows; r++) \
    put_part(sum, c, DTYPE_F32, load_part(x, r *channels + c, type, channels - c), true, channels - c)
    BY_COLUMNS(channels, STEP, LAST);
#undef STEP
#undef LAST
}

static void column_sums(const void *x, Dtype type, int64_t rows, int64_t channels, float *sum)
{
    const int64_t chunk = chunk_rows(channels);
    for (int64_t r = 0; r < rows; r += chunk) {
        const int64_t count = rows - r < chunk ? rows - r : chunk;
        const void *from = advance(x, r * channels, type);
#define BODY(t) column_sums_chunk(from, t, count, channels, sum)
        BY_TYPE(type, BODY);
#undef BODY
    }
}

INLINE void pool_row_with(const void *top, const void *bottom, void *y, Dtype type, int64_t width, int64_t channels,
                          float factor, bool accumulate)
{
    for (int64_t p = 0; p < width; p++) {
        const int64_t left = 2 * p * channels, right = left + channels, to = p * channels;
        int64_t c = 0;
        for (; c + VL <= channels; c += VL) {
            Vec sum = (load(top, left + c, type) + load(top, right + c, type)) +
                      (load(bottom, left + c, type) + load(bottom, right + c, type));
            put(y, to + c, type, factor * sum, accumulate);
        }
        if (c < channels) {
            const int64_t rest = channels - c;
            Vec sum = (load_part(top, left + c, type, rest) + load_part(top, right + c, type, rest)) +
                      (load_part(bottom, left + c, type, rest) + load_part(bottom, right + c, type, rest));
            put_part(y, to + c, type, factor * sum, accumulate, rest);
        }
    }
}

static void pool_row(const void *top, const void *bottom, void *y, Dtype type, int64_t width, int64_t channels,
                     float factor, bool accumulate)
{
#define BODY(t) pool_row_with(top, bottom, y, t, width, channels, factor, accumulate)
    BY_TYPE(type, BODY);
#undef BODY
}
