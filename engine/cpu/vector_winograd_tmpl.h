/* Part of vector_tmpl.h: the transforms of Winograd's minimal filtering F(2x2, 3x3) (Lavin & Gray 2015), on pixels of
 * `channels` floats. A 4x4 transform has its 16 results `pitch` floats apart. */

/* A vector of channels from c on: `count` of them, VL but for the last. */
INLINE Vec tile_load(const float *from, int64_t c, int64_t count)
{
    return count == VL ? load(from, c, DTYPE_F32) : load_part(from, c, DTYPE_F32, count);
}

INLINE void tile_store(float *to, int64_t c, Vec x, int64_t count)
{
    if (count == VL) {
        store(to, c, DTYPE_F32, x);
    } else {
        store_part(to, c, DTYPE_F32, x, count);
    }
}

INLINE int64_t tile_count(int64_t channels, int64_t c)
{
    return channels - c < VL ? channels - c : VL;
}

/* v = B^T d B */
INLINE void winograd_input_at(const float *const pixel[16], int64_t c, int64_t count, float *v, int64_t pitch)
{
    Vec t[4][4];
    for (int j = 0; j < 4; j++) {
        const Vec d0 = tile_load(pixel[j], c, count), d1 = tile_load(pixel[4 + j], c, count);
        const Vec d2 = tile_load(pixel[8 + j], c, count), d3 = tile_load(pixel[12 + j], c, count);
        t[0][j] = d0 - d2;
        t[1][j] = d1 + d2;
        t[2][j] = d2 - d1;
        t[3][j] = d1 - d3;
    }
    for (int i = 0; i < 4; i++) {
        tile_store(v + (4 * i + 0) * pitch, c, t[i][0] - t[i][2], count);
        tile_store(v + (4 * i + 1) * pitch, c, t[i][1] + t[i][2], count);
        tile_store(v + (4 * i + 2) * pitch, c, t[i][2] - t[i][1], count);
        tile_store(v + (4 * i + 3) * pitch, c, t[i][1] - t[i][3], count);
    }
}

static void winograd_input(const float *const pixel[16], int64_t channels, float *v, int64_t pitch)
{
    int64_t c = 0;
    for (; c + VL <= channels; c += VL) winograd_input_at(pixel, c, VL, v, pitch);
    if (c < channels) winograd_input_at(pixel, c, tile_count(channels, c), v, pitch);
}

/* y = A^T m A + bias + from, 2x2 pixels */
INLINE void winograd_output_at(const float *m, int64_t pitch, int64_t c, int64_t count, const float *bias,
                               const float *const from[4], float *const pixel[4])
{
    Vec t[2][4];
    for (int j = 0; j < 4; j++) {
        const Vec m0 = tile_load(m + j * pitch, c, count), m1 = tile_load(m + (4 + j) * pitch, c, count);
        const Vec m2 = tile_load(m + (8 + j) * pitch, c, count), m3 = tile_load(m + (12 + j) * pitch, c, count);
        t[0][j] = (m0 + m1) + m2;
        t[1][j] = (m1 - m2) - m3;
    }
    const Vec b = bias ? tile_load(bias, c, count) : (Vec){0};
    for (int i = 0; i < 4; i++) {
        const Vec *r = t[i / 2];
        if (!pixel[i]) continue;
        Vec y = i % 2 == 0 ? (r[0] + r[1]) + r[2] : (r[1] - r[2]) - r[3];
        y += b;
        if (from[i]) y += tile_load(from[i], c, count);
        tile_store(pixel[i], c, y, count);
    }
}

static void winograd_output(const float *m, int64_t pitch, int64_t channels, const float *bias,
                            const float *const from[4], float *const pixel[4])
{
    int64_t c = 0;
    for (; c + VL <= channels; c += VL) winograd_output_at(m, pitch, c, VL, bias, from, pixel);
    if (c < channels) winograd_output_at(m, pitch, c, tile_count(channels, c), bias, from, pixel);
}

/* u = G g G^T, g the 3x3 weights of `channels` */
INLINE void winograd_weights_at(const float *const g[9], int64_t c, int64_t count, float *u, int64_t pitch)
{
    Vec t[4][3];
    for (int j = 0; j < 3; j++) {
        const Vec g0 = tile_load(g[j], c, count), g1 = tile_load(g[3 + j], c, count);
        const Vec g2 = tile_load(g[6 + j], c, count);
        t[0][j] = g0;
        t[1][j] = 0.5f * ((g0 + g2) + g1);
        t[2][j] = 0.5f * ((g0 + g2) - g1);
        t[3][j] = g2;
    }
    for (int i = 0; i < 4; i++) {
        tile_store(u + (4 * i + 0) * pitch, c, t[i][0], count);
        tile_store(u + (4 * i + 1) * pitch, c, 0.5f * ((t[i][0] + t[i][2]) + t[i][1]), count);
        tile_store(u + (4 * i + 2) * pitch, c, 0.5f * ((t[i][0] + t[i][2]) - t[i][1]), count);
        tile_store(u + (4 * i + 3) * pitch, c, t[i][2], count);
    }
}

static void winograd_weights(const float *const g[9], int64_t channels, float *u, int64_t pitch)
{
    int64_t c = 0;
    for (; c + VL <= channels; c += VL) winograd_weights_at(g, c, VL, u, pitch);
    if (c < channels) winograd_weights_at(g, c, tile_count(channels, c), u, pitch);
}

/* The transposes of the above, for the weights' gradient: m = A dy A^T, from 2x2 pixels */
INLINE void winograd_dy_at(const float *const pixel[4], int64_t c, int64_t count, float *m, int64_t pitch)
{
    Vec t[4][2];
    for (int j = 0; j < 2; j++) {
        const Vec y0 = tile_load(pixel[j], c, count), y1 = tile_load(pixel[2 + j], c, count);
        t[0][j] = y0;
        t[1][j] = y0 + y1;
        t[2][j] = y0 - y1;
        t[3][j] = -y1;
    }
    for (int i = 0; i < 4; i++) {
        tile_store(m + (4 * i + 0) * pitch, c, t[i][0], count);
        tile_store(m + (4 * i + 1) * pitch, c, t[i][0] + t[i][1], count);
        tile_store(m + (4 * i + 2) * pitch, c, t[i][0] - t[i][1], count);
        tile_store(m + (4 * i + 3) * pitch, c, -t[i][1], count);
    }
}

static void winograd_dy(const float *const pixel[4], int64_t channels, float *m, int64_t pitch)
{
    int64_t c = 0;
    for (; c + VL <= channels; c += VL) winograd_dy_at(pixel, c, VL, m, pitch);
    if (c < channels) winograd_dy_at(pixel, c, tile_count(channels, c), m, pitch);
}

/* g = G^T u G, set or added, where u is the sum of `parts` transforms `part_pitch` apart */
INLINE void winograd_dweights_at(const float *u, int64_t pitch, int64_t parts, int64_t part_pitch, int64_t c,
                                 int64_t count, bool accumulate, float *const g[9])
{
    Vec t[3][4];
    for (int j = 0; j < 4; j++) {
        Vec s[4];
        for (int i = 0; i < 4; i++) {
            s[i] = tile_load(u + (4 * i + j) * pitch, c, count);
            for (int64_t p = 1; p < parts; p++) s[i] += tile_load(u + p * part_pitch + (4 * i + j) * pitch, c, count);
        }
        t[0][j] = s[0] + 0.5f * (s[1] + s[2]);
        t[1][j] = 0.5f * (s[1] - s[2]);
        t[2][j] = s[3] + 0.5f * (s[1] + s[2]);
    }
    for (int i = 0; i < 3; i++) {
        const Vec half_sum = 0.5f * (t[i][1] + t[i][2]);
        const Vec row[3] = {t[i][0] + half_sum, 0.5f * (t[i][1] - t[i][2]), t[i][3] + half_sum};
        for (int j = 0; j < 3; j++) {
            float *to = g[3 * i + j];
            tile_store(to, c, accumulate ? row[j] + tile_load(to, c, count) : row[j], count);
        }
    }
}

static void winograd_dweights(const float *u, int64_t pitch, int64_t parts, int64_t part_pitch, int64_t channels,
                              bool accumulate, float *const g[9])
{
    int64_t c = 0;
    for (; c + VL <= channels; c += VL) winograd_dweights_at(u, pitch, parts, part_pitch, c, VL, accumulate, g);
    if (c < channels) winograd_dweights_at(u, pitch, parts, part_pitch, c, tile_count(channels, c), accumulate, g);
}
