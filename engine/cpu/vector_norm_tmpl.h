/* Part of vector_tmpl.h: group norm and layer norm. */

INLINE void norm_sums_block(const void *x, Dtype type, int64_t rows, int64_t pitch, const float *shift, float *sum,
                            float *square, int vectors)
{
    Vec s[4] = {{0}}, q[4] = {{0}}, k[4] = {{0}};
    for (int v = 0; v < vectors; v++) k[v] = load(shift, v * VL, DTYPE_F32);
    for (int64_t r = 0; r < rows; r++) {
        for (int v = 0; v < vectors; v++) {
            Vec d = load(x, r * pitch + v * VL, type) - k[v];
            s[v] += d;
            q[v] += d * d;
        }
    }
    for (int v = 0; v < vectors; v++) {
        put(sum, v * VL, DTYPE_F32, s[v], true);
        put(square, v * VL, DTYPE_F32, q[v], true);
    }
}

INLINE void norm_sums_chunk(const void *x, Dtype type, int64_t rows, int64_t channels, const float *shift, float *sum,
                            float *square)
{
#define STEP(n) norm_sums_block(advance(x, c, type), type, rows, channels, shift + c, sum + c, square + c, n)
#define LAST()                                                          \
    do {                                                                \
        const int64_t rest = channels - c;                              \
        Vec s = {0}, q = {0}, k = load_part(shift, c, DTYPE_F32, rest); \
        for (int64_t r = 0; r < rows; r++) {                            \
            Vec d = load_part(x, r * channels + c, type, rest) - k;     \
            s += d;                                                     \
            q += d * d;                                                 \
        }                                                               \
        put_part(sum, c, DTYPE_F32, s, true, rest);                     \
        put_part(square, c, DTYPE_F32, q, true, rest);                  \
    } while (0)
    BY_COLUMNS(channels, STEP, LAST);
#undef STEP
#undef LAST
}

static void norm_sums(const void *x, Dtype type, int64_t rows, int64_t channels, const float *shift, float *sum,
                      float *square)
{
    const int64_t chunk = chunk_rows(channels);
    for (int64_t r = 0; r < rows; r += chunk) {
        const int64_t count = rows - r < chunk ? rows - r : chunk;
        const void *from = advance(x, r * channels, type);
#define BODY(t) norm_sums_chunk(from, t, count, channels, shift, sum, square)
        BY_TYPE(type, BODY);
#undef BODY
    }
}

INLINE void norm_apply_with(const NormRows *a, void *y, Dtype type, Activation act)
{
    for (int64_t r = 0; r < a->rows; r++) {
        const int64_t row = r * a->channels;
        int64_t c = 0;
        for (; c + VL <= a->channels; c += VL) {
            Vec d = load(a->x, row + c, type) - load(a->mean, c, DTYPE_F32);
            Vec v = d * load(a->scale, c, DTYPE_F32) + load(a->shift, c, DTYPE_F32);
            store(y, row + c, type, vec_activate(v, act));
        }
        if (c < a->channels) {
            const int64_t rest = a->channels - c;
            Vec d = load_part(a->x, row + c, type, rest) - load_part(a->mean, c, DTYPE_F32, rest);
            Vec v = d * load_part(a->scale, c, DTYPE_F32, rest) + load_part(a->shift, c, DTYPE_F32, rest);
            store_part(y, row + c, type, vec_activate(v, act), rest);
        }
    }
}

static void norm_apply(const NormRows *a, void *y)
{
#define SILU(t) norm_apply_with(a, y, t, ACT_SILU)
#define NONE(t) norm_apply_with(a, y, t, ACT_NONE)
    if (a->act == ACT_SILU) {
        BY_TYPE(a->type, SILU);
    } else {
        BY_TYPE(a->type, NONE);
    }
#undef SILU
#undef NONE
}

INLINE Vec norm_slope(Vec dy, Vec d, Vec scale, Vec shift, Activation act)
{
    return act == ACT_NONE ? dy : dy * vec_activate_slope(d * scale + shift, act);
}

INLINE void norm_grad_sums_block(const void *x, const void *dy, Dtype type, int64_t rows, int64_t pitch,
                                 const float *mean, const float *scale, const float *shift, Activation act, float *sum,
                                 float *product, int vectors)
{
    Vec s[2] = {{0}}, q[2] = {{0}}, m[2] = {{0}}, a[2] = {{0}}, b[2] = {{0}};
    for (int v = 0; v < vectors; v++) {
        m[v] = load(mean, v * VL, DTYPE_F32);
        a[v] = load(scale, v * VL, DTYPE_F32);
        b[v] = load(shift, v * VL, DTYPE_F32);
    }
    for (int64_t r = 0; r < rows; r++) {
        for (int v = 0; v < vectors; v++) {
            Vec d = load(x, r * pitch + v * VL, type) - m[v];
            Vec g = norm_slope(load(dy, r * pitch + v * VL, type), d, a[v], b[v], act);
            s[v] += g;
            q[v] += g * d;
        }
    }
    for (int v = 0; v < vectors; v++) {
        put(sum, v * VL, DTYPE_F32, s[v], true);
        put(product, v * VL, DTYPE_F32, q[v], true);
    }
}

INLINE void norm_grad_sums_chunk(const NormRows *a, const void *x, const void *dy, Dtype type, Activation act,
                                 int64_t rows, float *sum, float *product)
{
    int64_t c = 0;
    for (; c + 2 * VL <= a->channels; c += 2 * VL)
        norm_grad_sums_block(advance(x, c, type), advance(dy, c, type), type, rows, a->channels, a->mean + c,
                             a->scale + c, a->shift + c, act, sum + c, product + c, 2);
    for (; c + VL <= a->channels; c += VL)
        norm_grad_sums_block(advance(x, c, type), advance(dy, c, type), type, rows, a->channels, a->mean + c,
                             a->scale + c, a->shift + c, act, sum + c, product + c, 1);
    if (c < a->channels) {
        const int64_t rest = a->channels - c;
        Vec s = {0}, q = {0}, mean = load_part(a->mean, c, DTYPE_F32, rest);
        Vec scale = load_part(a->scale, c, DTYPE_F32, rest), shift = load_part(a->shift, c, DTYPE_F32, rest);
        for (int64_t r = 0; r < rows; r++) {
            Vec d = load_part(x, r * a->channels + c, type, rest) - mean;
            Vec g = norm_slope(load_part(dy, r * a->channels + c, type, rest), d, scale, shift, act);
            s += g;
            q += g * d;
        }
        put_part(sum, c, DTYPE_F32, s, true, rest);
        put_part(product, c, DTYPE_F32, q, true, rest);
    }
}

static void norm_grad_sums(const NormRows *a, const void *dy, float *sum, float *product)
{
    const int64_t chunk = chunk_rows(a->channels);
    for (int64_t r = 0; r < a->rows; r += chunk) {
        const int64_t count = a->rows - r < chunk ? a->rows - r : chunk;
        const void *x = advance(a->x, r * a->channels, a->type), *from = advance(dy, r * a->channels, a->type);
#define SILU(t) norm_grad_sums_chunk(a, x, from, t, ACT_SILU, count, sum, product)
#define NONE(t) norm_grad_sums_chunk(a, x, from, t, ACT_NONE, count, sum, product)
        if (a->act == ACT_SILU) {
            BY_TYPE(a->type, SILU);
        } else {
            BY_TYPE(a->type, NONE);
        }
#undef SILU
#undef NONE
    }
}

INLINE void norm_grad_apply_with(const NormRows *n, const void *dy, const float *a, const float *b, void *dx,
                                 bool accumulate, Dtype type, Activation act)
{
    for (int64_t r = 0; r < n->rows; r++) {
        const int64_t row = r * n->channels;
        int64_t c = 0;
        for (; c + VL <= n->channels; c += VL) {
            Vec scale = load(n->scale, c, DTYPE_F32);
            Vec d = load(n->x, row + c, type) - load(n->mean, c, DTYPE_F32);
            Vec g = norm_slope(load(dy, row + c, type), d, scale, load(n->shift, c, DTYPE_F32), act);
            put(dx, row + c, type, g * scale - load(a, c, DTYPE_F32) - d * load(b, c, DTYPE_F32), accumulate);
        }
        if (c < n->channels) {
            const int64_t rest = n->channels - c;
            Vec scale = load_part(n->scale, c, DTYPE_F32, rest);
            Vec d = load_part(n->x, row + c, type, rest) - load_part(n->mean, c, DTYPE_F32, rest);
            Vec g =
                norm_slope(load_part(dy, row + c, type, rest), d, scale, load_part(n->shift, c, DTYPE_F32, rest), act);
            Vec value = g * scale - load_part(a, c, DTYPE_F32, rest) - d * load_part(b, c, DTYPE_F32, rest);
            put_part(dx, row + c, type, value, accumulate, rest);
        }
    }
}

static void norm_grad_apply(const NormRows *n, const void *dy, const float *a, const float *b, void *dx,
                            bool accumulate)
{
#define SILU(t) norm_grad_apply_with(n, dy, a, b, dx, accumulate, t, ACT_SILU)
#define NONE(t) norm_grad_apply_with(n, dy, a, b, dx, accumulate, t, ACT_NONE)
    if (n->act == ACT_SILU) {
        BY_TYPE(n->type, SILU);
    } else {
        BY_TYPE(n->type, NONE);
    }
#undef SILU
#undef NONE
}

/* Sums over a row: of x, and of (x - mean)^2 after it. */
INLINE float row_sum(const void *x, int64_t at, Dtype type, int64_t count)
{
    Vec sum = {0};
    int64_t c = 0;
    for (; c + VL <= count; c += VL) sum += load(x, at + c, type);
    if (c < count) sum += load_part(x, at + c, type, count - c);
    return vec_sum(sum);
}

INLINE float row_squares(const void *x, int64_t at, Dtype type, int64_t count, float mean)
{
    Vec sum = {0};
    int64_t c = 0;
    for (; c + VL <= count; c += VL) {
        Vec d = load(x, at + c, type) - mean;
        sum += d * d;
    }
    float total = vec_sum(sum);
    for (; c < count; c++) {
        float d = load_part(x, at + c, type, 1)[0] - mean;
        total += d * d;
    }
    return total;
}

INLINE void layer_norm_with(const LayerNormRows *a, void *y, Dtype type)
{
    for (int64_t r = 0; r < a->rows; r++) {
        const int64_t row = r * a->channels;
        const float mean = row_sum(a->x, row, type, a->channels) / (float)a->channels;
        const float variance = row_squares(a->x, row, type, a->channels, mean) / (float)a->channels;
        const float rstd = 1.0f / sqrtf(variance + a->eps);
        if (a->stats) {
            a->stats[2 * r] = mean;
            a->stats[2 * r + 1] = rstd;
        }
        int64_t c = 0;
        for (; c + VL <= a->channels; c += VL) {
            Vec xhat = (load(a->x, row + c, type) - mean) * rstd;
            store(y, row + c, type, xhat * load(a->gamma, c, DTYPE_F32) + load(a->beta, c, DTYPE_F32));
        }
        if (c < a->channels) {
            const int64_t rest = a->channels - c;
            Vec xhat = (load_part(a->x, row + c, type, rest) - mean) * rstd;
            Vec v = xhat * load_part(a->gamma, c, DTYPE_F32, rest) + load_part(a->beta, c, DTYPE_F32, rest);
            store_part(y, row + c, type, v, rest);
        }
    }
}

static void layer_norm(const LayerNormRows *a, void *y)
{
#define BODY(t) layer_norm_with(a, y, t)
    BY_TYPE(a->type, BODY);
#undef BODY
}

INLINE void rms_norm_with(const LayerNormRows *a, void *y, Dtype type)
{
    for (int64_t r = 0; r < a->rows; r++) {
        const int64_t row = r * a->channels;
        const float mean_square = row_squares(a->x, row, type, a->channels, 0) / (float)a->channels;
        const float scale = 1.0f / sqrtf(mean_square + a->eps);
        int64_t c = 0;
        for (; c + VL <= a->channels; c += VL)
            store(y, row + c, type, load(a->x, row + c, type) * scale * load(a->gamma, c, DTYPE_F32));
        if (c < a->channels) {
            const int64_t rest = a->channels - c;
            Vec v = load_part(a->x, row + c, type, rest) * scale * load_part(a->gamma, c, DTYPE_F32, rest);
            store_part(y, row + c, type, v, rest);
        }
    }
}

static void rms_norm(const LayerNormRows *a, void *y)
{
#define BODY(t) rms_norm_with(a, y, t)
    BY_TYPE(a->type, BODY);
#undef BODY
}

/* dx = rstd (u - mean(u) - xhat mean(u xhat)), u = dy gamma */
INLINE void layer_norm_grad_with(const LayerNormRows *a, const void *dy, void *dx, bool accumulate, float *dgamma,
                                 float *dbeta, Dtype type)
{
    for (int64_t r = 0; r < a->rows; r++) {
        const int64_t row = r * a->channels, whole = a->channels / VL * VL, rest = a->channels - whole;
        const float mean = a->stats[2 * r], rstd = a->stats[2 * r + 1];
        Vec sum = {0}, product = {0};
        for (int64_t c = 0; c < whole; c += VL) {
            Vec xhat = (load(a->x, row + c, type) - mean) * rstd, g = load(dy, row + c, type);
            Vec u = g * load(a->gamma, c, DTYPE_F32);
            sum += u;
            product += u * xhat;
            put(dgamma, c, DTYPE_F32, g * xhat, true);
            put(dbeta, c, DTYPE_F32, g, true);
        }
        Vec last_xhat = {0}, last_u = {0};
        if (rest > 0) {
            last_xhat = (load_part(a->x, row + whole, type, rest) - mean) * rstd;
            Vec g = load_part(dy, row + whole, type, rest); /* zero past the row */
            last_u = g * load_part(a->gamma, whole, DTYPE_F32, rest);
            sum += last_u;
            product += last_u * last_xhat;
            put_part(dgamma, whole, DTYPE_F32, g * last_xhat, true, rest);
            put_part(dbeta, whole, DTYPE_F32, g, true, rest);
        }
        if (!dx) continue;
        const float mean_u = vec_sum(sum) / (float)a->channels, mean_product = vec_sum(product) / (float)a->channels;
        for (int64_t c = 0; c < whole; c += VL) {
            Vec xhat = (load(a->x, row + c, type) - mean) * rstd;
            Vec u = load(dy, row + c, type) * load(a->gamma, c, DTYPE_F32);
            put(dx, row + c, type, rstd * (u - mean_u - xhat * mean_product), accumulate);
        }
        if (rest > 0)
            put_part(dx, row + whole, type, rstd * (last_u - mean_u - last_xhat * mean_product), accumulate, rest);
    }
}

static void layer_norm_grad(const LayerNormRows *a, const void *dy, void *dx, bool accumulate, float *dgamma,
                            float *dbeta)
{
#define BODY(t) layer_norm_grad_with(a, dy, dx, accumulate, dgamma, dbeta, t)
    BY_TYPE(a->type, BODY);
#undef BODY
}
