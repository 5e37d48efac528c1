/* Part of vector_tmpl.h: rows of attention scores. */

/* Hidden keys' scores become minus infinity, whatever they were. */
static void hide_scores(const ScoreRow *a)
{
    const int64_t masked = a->mask ? a->masked : 0;
    int64_t i = 0;
    for (; i + VL <= masked; i += VL) {
        VecInt hidden = *(const VecIntAt *)(a->mask + i) == 0;
        store(a->scores, i, DTYPE_F32, vec_select(hidden, vec_set(-INFINITY), load(a->scores, i, DTYPE_F32)));
    }
    for (; i < masked; i++)
        if (a->mask[i] == 0) a->scores[i] = -INFINITY;
}

/* Scores become scaled, biased, and minus infinity where hidden. */
static void finish_scores(const ScoreRow *a)
{
    for (int64_t i = 0; i < a->keys; i++) {
        float s = a->scores[i] * a->scale;
        if (a->bias) s += a->bias[i];
        a->scores[i] = s;
    }
    hide_scores(a);
}

/* Each row's vectors: whole ones, then one part padded with `pad`. */
INLINE Vec score_at(const float *scores, int64_t i, int64_t count, float pad)
{
    if (i + VL <= count) return load(scores, i, DTYPE_F32);
    Vec x = vec_set(pad);
    memcpy(&x, scores + i, (size_t)(count - i) * sizeof(float));
    return x;
}

INLINE void softmax_row_with(const ScoreRow *a, float scale, Dtype type, float *sum, float *lse)
{
    Vec largest = vec_set(-INFINITY), total = {0};
    int64_t i = 0;
    for (; i + VL <= a->keys; i += VL) largest = vec_max(largest, load(a->scores, i, DTYPE_F32));
    if (i < a->keys) largest = vec_max(largest, score_at(a->scores, i, a->keys, -INFINITY));
    const float top = scale * vec_largest(largest);
    if (top == -INFINITY) {
        memset(a->p, 0, (size_t)a->keys * (type == DTYPE_BF16 ? sizeof(Bf16) : sizeof(float)));
        *sum = 0;
        *lse = 0;
        return;
    }
    for (i = 0; i + VL <= a->keys; i += VL) {
        Vec p = vec_exp(load(a->scores, i, DTYPE_F32) * scale - top);
        total += p;
        store(a->p, i, type, p);
    }
    if (i < a->keys) {
        Vec p = vec_exp(score_at(a->scores, i, a->keys, -INFINITY) * scale - top);
        total += p;
        store_part(a->p, i, type, p, a->keys - i);
    }
    *sum = vec_sum(total);
    *lse = top + logf(*sum);
}

/* `scale` must be positive, so that the largest score stays the largest. */
static void softmax_row(const ScoreRow *a, float *sum, float *lse)
{
    float scale = a->scale;
    if (a->bias || !(scale > 0)) {
        finish_scores(a);
        scale = 1.0f;
    } else {
        hide_scores(a);
    }
#define BODY(t) softmax_row_with(a, scale, t, sum, lse)
    BY_TYPE(a->p_type, BODY);
#undef BODY
}

INLINE void softmax_grad_row_with(const ScoreRow *a, float lse, const float *dp, float delta, void *ds, Dtype type)
{
    int64_t i = 0;
    for (; i + VL <= a->keys; i += VL) {
        Vec p = vec_exp(load(a->scores, i, DTYPE_F32) * a->scale - lse);
        Vec slope = p * (load(dp, i, DTYPE_F32) - delta) * a->scale;
        store(a->p, i, type, p);
        store(ds, i, type, slope);
    }
    if (i < a->keys) {
        const int64_t rest = a->keys - i;
        Vec p = vec_exp(load_part(a->scores, i, DTYPE_F32, rest) * a->scale - lse);
        Vec slope = p * (load_part(dp, i, DTYPE_F32, rest) - delta) * a->scale;
        store_part(a->p, i, type, p, rest);
        store_part(ds, i, type, slope, rest);
    }
}

static void softmax_grad_row(const ScoreRow *a, float lse, const float *dp, float delta, void *ds)
{
    hide_scores(a);
#define BODY(t) softmax_grad_row_with(a, lse, dp, delta, ds, t)
    BY_TYPE(a->p_type, BODY);
#undef BODY
}

INLINE float dot_with(const void *x, const void *y, Dtype type, int64_t count)
{
    Vec sum = {0};
    int64_t i = 0;
    for (; i + VL <= count; i += VL) sum += load(x, i, type) * load(y, i, type);
    if (i < count) sum += load_part(x, i, type, count - i) * load_part(y, i, type, count - i);
    return vec_sum(sum);
}

static float dot(const void *x, const void *y, Dtype type, int64_t count)
{
    return type == DTYPE_BF16 ? dot_with(x, y, DTYPE_BF16, count) : dot_with(x, y, DTYPE_F32, count);
}
