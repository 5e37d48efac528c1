/* The resizer: the same bits with every instruction set, near the exact filter, rows one by one, boxes, mirrors. */
#include "shards.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/random.h"
#include "data/pixels.h"
#include "data/resize_kernels.h"

/* Noise, edges, and stretches of black and white: overshoot and clipping happen everywhere. */
static uint8_t *make_picture(int width, int height, uint64_t seed)
{
    uint8_t *rgb = mem_alloc_array((size_t)width * (size_t)height, 3);
    assert_non_null(rgb);
    for (int y = 0; y < height; y++)
        for (int x = 0; x < width; x++)
            for (int c = 0; c < 3; c++) {
                size_t at = ((size_t)y * (size_t)width + (size_t)x) * 3 + (size_t)c;
                uint32_t noise = random_u32(seed, RANDOM_TEST, at, 0);
                int kind = (x / 7 + y / 5 + c) % 4;
                rgb[at] = kind == 0 ? 0 : kind == 1 ? 255 : (uint8_t)noise;
            }
    return rgb;
}

/* ---- the exact filter, in doubles, rounded and clipped between the directions as the resizer promises ---- */

static double keys(double x)
{
    x = fabs(x);
    return x < 1 ? (1.5 * x - 2.5) * x * x + 1 : x < 2 ? ((-0.5 * x + 2.5) * x - 4) * x + 2 : 0;
}

static void exact_line(const double *in, int from, double start, double length, double *out, int to)
{
    double scale = length / to, stretch = scale > 1 ? scale : 1;
    for (int i = 0; i < to; i++) {
        double center = start + (i + 0.5) * scale, sum = 0, weights = 0;
        int low = (int)fmax(center - 2 * stretch + 0.5, 0), high = (int)fmin(center + 2 * stretch + 0.5, from);
        for (int k = low; k < high; k++) {
            double w = keys((k + 0.5 - center) / stretch);
            sum += w * in[k];
            weights += w;
        }
        out[i] = fmin(fmax(floor(sum / weights + 0.5), 0), 255);
    }
}

static void exact(const uint8_t *rgb, const ResizeShape *s, uint8_t *out)
{
    int most = s->width > s->height ? s->width : s->height;
    double *line = mem_alloc_array((size_t)most, sizeof *line);
    double *middle = mem_alloc_array((size_t)s->height * (size_t)s->to_width, sizeof *middle);
    double *result = mem_alloc_array((size_t)s->to_width + (size_t)s->to_height, sizeof *result);
    for (int c = 0; c < 3; c++) {
        for (int y = 0; y < s->height; y++) {
            for (int x = 0; x < s->width; x++) line[x] = rgb[(y * s->width + x) * 3 + c];
            exact_line(line, s->width, s->x, s->box_width, middle + y * s->to_width, s->to_width);
        }
        for (int x = 0; x < s->to_width; x++) {
            for (int y = 0; y < s->height; y++) line[y] = middle[y * s->to_width + x];
            exact_line(line, s->height, s->y, s->box_height, result, s->to_height);
            for (int y = 0; y < s->to_height; y++) {
                int to = s->mirror ? s->to_width - 1 - x : x;
                out[(y * s->to_width + to) * 3 + c] = (uint8_t)result[y];
            }
        }
    }
    free(line);
    free(middle);
    free(result);
}

static const ResizeShape shapes[] = {
    {.width = 64, .height = 64, .box_width = 64, .box_height = 64, .to_width = 32, .to_height = 32},
    {.width = 64, .height = 64, .box_width = 64, .box_height = 64, .to_width = 32, .to_height = 32, .mirror = true},
    {.width = 101, .height = 101, .box_width = 101, .box_height = 101, .to_width = 37, .to_height = 37},
    {.width = 75, .height = 42, .box_width = 75, .box_height = 42, .to_width = 40, .to_height = 61},
    {.width = 300, .height = 211, .box_width = 300, .box_height = 211, .to_width = 16, .to_height = 9, .mirror = true},
    {.width = 5, .height = 5, .box_width = 5, .box_height = 5, .to_width = 33, .to_height = 33},
    {.width = 1, .height = 7, .box_width = 1, .box_height = 7, .to_width = 3, .to_height = 2},
    {.width = 3, .height = 1, .box_width = 3, .box_height = 1, .to_width = 2, .to_height = 5},
    {.width = 50, .height = 50, .box_width = 50, .box_height = 50, .to_width = 50, .to_height = 50, .mirror = true},
    /* between pixels, as a JPEG gives them that was decoded smaller */
    {.width = 66,
     .height = 67,
     .x = 0.5,
     .y = 0.75,
     .box_width = 65,
     .box_height = 66,
     .to_width = 32,
     .to_height = 32},
    {.width = 90,
     .height = 90,
     .x = 0.25,
     .y = 0.25,
     .box_width = 89.5,
     .box_height = 89.5,
     .to_width = 40,
     .to_height = 40},
};
#define SHAPES (sizeof shapes / sizeof shapes[0])

static void resize(const ResizeKernels *kernels, const ResizeShape *s, const uint8_t *rgb, int at_once, uint8_t *out)
{
    Resizer resizer = {.kernels = kernels};
    /* A copy that ends with the last pixel: the address sanitizer sees reads behind it. */
    size_t row = (size_t)s->width * 3;
    assert_ok(resize_begin(&resizer, s, out));
    for (int y = 0; y < s->height; y += at_once) {
        int count = s->height - y < at_once ? s->height - y : at_once;
        uint8_t *copy = malloc(row * (size_t)count);
        memcpy(copy, rgb + (size_t)y * row, row * (size_t)count);
        resize_add_rows(&resizer, copy, row, count);
        free(copy);
    }
    resizer_free(&resizer);
}

static void test_instruction_sets(void **state)
{
    (void)state;
    assert_non_null(resize_kernels_available(0));
    for (size_t s = 0; s < SHAPES; s++) {
        const ResizeShape *shape = &shapes[s];
        size_t bytes = (size_t)shape->to_width * (size_t)shape->to_height * 3;
        uint8_t *rgb = make_picture(shape->width, shape->height, s);
        uint8_t *first = mem_alloc_array(bytes, 1), *other = mem_alloc_array(bytes, 1),
                *wanted = mem_alloc_array(bytes, 1);
        resize(resize_kernels_available(0), shape, rgb, shape->height, first);
        exact(rgb, shape, wanted);
        for (size_t b = 0; b < bytes; b++)
            if (abs((int)first[b] - (int)wanted[b]) > 1)
                fail_msg("shape %zu, byte %zu: %d, exactly %d", s, b, first[b], wanted[b]);
        for (int k = 0; resize_kernels_available(k); k++)
            for (int at_once = RESIZE_ROWS; at_once <= 16; at_once *= 2) {
                memset(other, 7, bytes);
                resize(resize_kernels_available(k), shape, rgb, at_once, other);
                if (memcmp(first, other, bytes) != 0)
                    fail_msg("shape %zu: %s with %d rows at once differs", s, resize_kernels_available(k)->name,
                             at_once);
            }
        free(rgb);
        free(first);
        free(other);
        free(wanted);
    }
}

/* Nothing is written beside the result, whatever its width. */
static void test_bounds(void **state)
{
    (void)state;
    uint8_t *rgb = make_picture(40, 40, 9);
    for (int to = 1; to < 70; to++)
        for (int k = 0; resize_kernels_available(k); k++) {
            Resizer resizer = {.kernels = resize_kernels_available(k)};
            size_t bytes = (size_t)to * 6;
            uint8_t *out = malloc(bytes + 64);
            memset(out, 0xa5, bytes + 64);
            assert_ok(resize_box(&resizer, rgb, 120, 40, 40, to, 2, out));
            for (size_t b = bytes; b < bytes + 64; b++) assert_int_equal(out[b], 0xa5);
            free(out);
            resizer_free(&resizer);
        }
    free(rgb);
}

/* One resizer for pictures of all sizes in turn gives what a fresh one gives. */
static void test_reuse(void **state)
{
    (void)state;
    Resizer resizer = {0};
    static uint8_t first[70 * 70 * 3], again[70 * 70 * 3];
    for (int turn = 0; turn < 3; turn++)
        for (size_t s = 0; s < SHAPES; s++) {
            const ResizeShape *shape = &shapes[s];
            size_t bytes = (size_t)shape->to_width * (size_t)shape->to_height * 3;
            uint8_t *rgb = make_picture(shape->width, shape->height, s);
            assert_true(bytes <= sizeof first);
            resize(NULL, shape, rgb, shape->height, first);
            assert_ok(resize_begin(&resizer, shape, again));
            resize_add_rows(&resizer, rgb, (size_t)shape->width * 3, shape->height);
            assert_memory_equal(first, again, bytes);
            free(rgb);
        }
    resizer_free(&resizer);
}

/* All 256 levels, and every count's remainder behind the vectors. */
static void test_pixels(void **state)
{
    (void)state;
    uint8_t in[300];
    float out[301];
    for (int i = 0; i < 300; i++) in[i] = (uint8_t)i;
    for (size_t count = 0; count <= 300; count++) {
        out[count] = 7;
        pixels_to_floats(in, count, out);
        assert_true(out[count] == 7);
        for (size_t i = 0; i < count; i++) {
            volatile float quotient = (float)in[i] / 127.5f;
            assert_true(out[i] == quotient - 1.0f);
        }
    }
    assert_true(out[0] == -1 && out[255] == 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_instruction_sets),
        cmocka_unit_test(test_bounds),
        cmocka_unit_test(test_reuse),
        cmocka_unit_test(test_pixels),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
