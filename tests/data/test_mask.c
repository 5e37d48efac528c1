/* Random masks: what the config asks for comes, in its shares and sizes; kept is 1 and painted is 0; the same at any
 * size; every shape covers what its outline says. */
#include "shards.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "data/mask.h"

enum { SIDE = 64, MASKS = 20000 };

static const char *const SHARES[MASK_KINDS] = {"box", "polygon", "stroke", "frame", "whole"};

/* The section's defaults with these lines of YAML. */
static MaskConfig configure(const char *text)
{
    MaskConfig masks;
    Config *config = NULL;
    assert_ok(config_load("masks.yaml", text, &MASK_CONFIG_SCHEMA, NULL, 0, &masks, &config));
    assert_ok(mask_config_check(&masks, config, "inpainting"));
    config_free(config);
    return masks;
}

/* Of one kind alone. */
static MaskConfig only(MaskKind kind, double more)
{
    char text[256];
    snprintf(text, sizeof text, "{box: %d, polygon: %d, stroke: %d, frame: %d, whole: %d, more: %g}", kind == MASK_BOX,
             kind == MASK_POLYGON, kind == MASK_STROKE, kind == MASK_FRAME, kind == MASK_WHOLE, more);
    return configure(text);
}

static double kept(const Mask *mask, int64_t side)
{
    float *pixels = mem_alloc_array((size_t)(side * side), sizeof *pixels);
    double sum = 0;
    assert_non_null(pixels);
    mask_rasterise(mask, side, 1, pixels);
    for (int64_t k = 0; k < side * side; k++) {
        assert_true(pixels[k] == 0 || pixels[k] == 1);
        sum += (double)pixels[k];
    }
    free(pixels);
    return sum / (double)(side * side);
}

/* Within four deviations of a count's mean. */
static void assert_share(const char *what, int64_t count, int64_t of, double share)
{
    const double deviation = sqrt(share * (1 - share) / (double)of), found = (double)count / (double)of;
    if (fabs(found - share) > 4 * deviation + 1e-12)
        fail_msg("%s: %.4f of %lld, where the config says %.4f", what, found, (long long)of, share);
}

/* Kinds by their shares, which need not add up to 1; shapes on top with the chance of `more`, and no more than four. */
static void shares_match(void **state)
{
    (void)state;
    const MaskConfig masks = configure("{box: 1, polygon: 4, stroke: 2, frame: 2.5, whole: 0.5, more: 0.3}");
    const double want[MASK_KINDS] = {0.1, 0.4, 0.2, 0.25, 0.05};
    for (uint64_t seed = 1; seed <= 3; seed++) {
        int64_t first[MASK_KINDS] = {0}, later[MASK_KINDS] = {0}, shapes[MASK_SHAPES + 1] = {0};
        for (uint64_t i = 0; i < MASKS; i++) {
            Mask mask;
            mask_draw(&masks, seed, i, &mask);
            assert_true(mask.count >= 1 && mask.count <= MASK_SHAPES);
            first[mask.shape[0].kind]++;
            if (mask.shape[0].kind == MASK_WHOLE)
                assert_int_equal(mask.count, 1);
            else
                shapes[mask.count]++;
            for (int32_t s = 1; s < mask.count; s++) later[mask.shape[s].kind]++;
        }
        const int64_t others = MASKS - first[MASK_WHOLE], added = later[0] + later[1] + later[2];
        for (int k = 0; k < MASK_KINDS; k++) assert_share(SHARES[k], first[k], MASKS, want[k]);
        assert_share("more than one shape", MASKS - first[MASK_WHOLE] - shapes[1], MASKS, mask_more_share(&masks));
        assert_share("one shape", shapes[1], others, 0.7);
        assert_share("two shapes", shapes[2], others, 0.3 * 0.7);
        assert_share("three shapes", shapes[3], others, 0.09 * 0.7);
        assert_share("four shapes", shapes[4], others, 0.027);
        assert_int_equal(later[MASK_FRAME] + later[MASK_WHOLE], 0);
        assert_share("boxes on top", later[MASK_BOX], added, 1.0 / 7);
        assert_share("polygons on top", later[MASK_POLYGON], added, 4.0 / 7);
        assert_share("strokes on top", later[MASK_STROKE], added, 2.0 / 7);
    }
}

/* Nothing can come on top of a frame where boxes, polygons and strokes have no share; a kind without a share never
 * comes. */
static void shares_of_nothing(void **state)
{
    (void)state;
    MaskConfig masks = only(MASK_FRAME, 1);
    for (uint64_t i = 0; i < 1000; i++) {
        Mask mask;
        mask_draw(&masks, 5, i, &mask);
        assert_int_equal(mask.count, 1);
        assert_int_equal(mask.shape[0].kind, MASK_FRAME);
    }
    assert_true(mask_more_share(&masks) == 0);
    masks = only(MASK_WHOLE, 1);
    assert_true(mask_more_share(&masks) == 0);
    masks = configure("{box: 1, polygon: 0, stroke: 0, frame: 1, whole: 2, more: 0.5}");
    assert_true(fabs(mask_more_share(&masks) - 0.25) < 1e-12);
    masks = configure("{box: 0, polygon: 1, stroke: 0, frame: 1, whole: 0, more: 1}");
    for (uint64_t i = 0; i < 1000; i++) {
        Mask mask;
        mask_draw(&masks, 5, i, &mask);
        assert_int_equal(mask.count, MASK_SHAPES);
        for (int32_t s = 0; s < MASK_SHAPES; s++)
            assert_true(mask.shape[s].kind == MASK_POLYGON || (s == 0 && mask.shape[s].kind == MASK_FRAME));
    }
}

/* The mean of what is kept, over many masks of one kind, and its own deviation. */
static void mean_kept(const MaskConfig *masks, uint64_t seed, int64_t count, double *mean, double *deviation)
{
    double sum = 0, squares = 0;
    for (int64_t i = 0; i < count; i++) {
        Mask mask;
        mask_draw(masks, seed, (uint64_t)i, &mask);
        const double part = kept(&mask, SIDE);
        sum += part;
        squares += part * part;
    }
    *mean = sum / (double)count;
    *deviation = sqrt((squares / (double)count - *mean * *mean) / (double)count);
}

/* The mean area that the ranges of sizes give, worked out by hand: of boxes the square of the mean side; of a frame
 * (1 - left - right)(1 - top - bottom) is kept, each of 15 choices of sides being as likely; of the whole nothing. */
static void areas_match(void **state)
{
    (void)state;
    MaskConfig box = configure("{box: 1, polygon: 0, stroke: 0, frame: 0, whole: 0, more: 0, box_min: 0.2, "
                               "box_max: 0.5}");
    MaskConfig frame = configure("{box: 0, polygon: 0, stroke: 0, frame: 1, whole: 0, more: 0, frame_min: 0.1, "
                                 "frame_max: 0.3}");
    MaskConfig whole = only(MASK_WHOLE, 1);
    double mean, deviation, frame_kept = 0;
    for (int sides = 1; sides < 16; sides++) {
        const int across = (sides & 1) + (sides >> 2 & 1), down = (sides >> 1 & 1) + (sides >> 3 & 1);
        frame_kept += (1 - 0.2 * across) * (1 - 0.2 * down) / 15;
    }
    for (uint64_t seed = 1; seed <= 3; seed++) {
        mean_kept(&box, seed, 3000, &mean, &deviation);
        if (fabs(mean - (1 - 0.35 * 0.35)) > 4 * deviation + 2e-3) fail_msg("boxes leave %.4f", mean);
        mean_kept(&frame, seed, 3000, &mean, &deviation);
        if (fabs(mean - frame_kept) > 4 * deviation + 2e-3) fail_msg("frames leave %.4f, not %.4f", mean, frame_kept);
        mean_kept(&whole, seed, 10, &mean, &deviation);
        assert_true(mean == 0);
    }
}

/* Kept is 1: the middle inside a frame and all around a box; painted is 0: inside the box and along the frame. */
static void polarity(void **state)
{
    (void)state;
    const MaskConfig box = only(MASK_BOX, 0), frame = only(MASK_FRAME, 0);
    static float pixels[SIDE * SIDE];
    for (uint64_t i = 0; i < 500; i++) {
        Mask mask;
        mask_draw(&frame, 3, i, &mask);
        mask_rasterise(&mask, SIDE, 1, pixels);
        assert_true(pixels[SIDE / 2 * SIDE + SIDE / 2] == 1);
        const MaskPoint low = mask.shape[0].point[0], high = mask.shape[0].point[1];
        assert_true(pixels[SIDE / 2 * SIDE] == (low.x > 0 ? 0 : 1));
        assert_true(pixels[SIDE / 2] == (low.y > 0 ? 0 : 1));
        assert_true(pixels[SIDE / 2 * SIDE + SIDE - 1] == (high.x < 1 ? 0 : 1));
        assert_true(pixels[(SIDE - 1) * SIDE + SIDE / 2] == (high.y < 1 ? 0 : 1));

        mask_draw(&box, 3, i, &mask);
        mask_rasterise(&mask, SIDE, 1, pixels);
        const MaskPoint a = mask.shape[0].point[0], b = mask.shape[0].point[1];
        assert_true(a.x >= 0 && a.y >= 0 && b.x <= 1.000001f && b.y <= 1.000001f && b.x > a.x && b.y > a.y);
        for (int64_t y = 0; y < SIDE; y++)
            for (int64_t x = 0; x < SIDE; x++) {
                const float px = ((float)x + 0.5f) / SIDE, py = ((float)y + 0.5f) / SIDE;
                if (fabsf(px - a.x) < 1e-5f || fabsf(px - b.x) < 1e-5f || fabsf(py - a.y) < 1e-5f ||
                    fabsf(py - b.y) < 1e-5f)
                    continue; /* on the line, up to rounding */
                const bool inside = px > a.x && px < b.x && py > a.y && py < b.y;
                assert_true(pixels[y * SIDE + x] == (inside ? 0 : 1));
            }
    }
}

static double distance(double ax, double ay, double bx, double by, double x, double y)
{
    double best = 1e9; /* by trying, not by the formula under test */
    for (int k = 0; k <= 4000; k++) {
        const double t = k / 4000.0, dx = ax + t * (bx - ax) - x, dy = ay + t * (by - ay) - y;
        if (hypot(dx, dy) < best) best = hypot(dx, dy);
    }
    return best;
}

/* A stroke is what lies within half the brush's width of its pieces. */
static void strokes_are_brushed(void **state)
{
    (void)state;
    enum { SMALL = 24 };
    const MaskConfig masks = only(MASK_STROKE, 0);
    static float pixels[SMALL * SMALL];
    for (uint64_t i = 0; i < 12; i++) {
        Mask mask;
        mask_draw(&masks, 4, i, &mask);
        const MaskShape *s = &mask.shape[0];
        mask_rasterise(&mask, SMALL, 1, pixels);
        assert_true(s->count >= 3 && s->count <= 7);
        assert_true(s->radius >= 0.0249f && s->radius <= 0.1001f);
        for (int y = 0; y < SMALL; y++)
            for (int x = 0; x < SMALL; x++) {
                double nearest = 1e9;
                for (int32_t k = 0; k + 1 < s->count; k++)
                    nearest =
                        fmin(nearest, distance((double)s->point[k].x, (double)s->point[k].y, (double)s->point[k + 1].x,
                                               (double)s->point[k + 1].y, (x + 0.5) / SMALL, (y + 0.5) / SMALL));
                if (fabs(nearest - (double)s->radius) < 1e-4) continue;
                assert_true(pixels[y * SMALL + x] == (nearest < (double)s->radius ? 0 : 1));
            }
    }
}

/* A polygon covers as much as its outline encloses, which the shoelace formula tells, and nothing beyond its radius;
 * its corners are round: the outline turns by little from point to point. */
static void polygons_are_filled(void **state)
{
    (void)state;
    enum { FINE = 256 };
    MaskConfig masks = only(MASK_POLYGON, 0);
    masks.polygon = (MaskRange){0.3, 0.5};
    int64_t measured = 0;
    for (uint64_t i = 0; i < 400; i++) {
        Mask mask;
        mask_draw(&masks, 6, i, &mask);
        const MaskShape *s = &mask.shape[0];
        double area = 0, sharpest = 1;
        bool inside = true;
        assert_true(s->count >= 24 && s->count <= MASK_POINTS);
        for (int32_t k = 0; k < s->count; k++) {
            const MaskPoint a = s->point[k], b = s->point[(k + 1) % s->count], c = s->point[(k + 2) % s->count];
            area += 0.5 * ((double)a.x * (double)b.y - (double)b.x * (double)a.y);
            inside &= a.x > 0 && a.x < 1 && a.y > 0 && a.y < 1;
            const double ux = (double)(b.x - a.x), uy = (double)(b.y - a.y), vx = (double)(c.x - b.x),
                         vy = (double)(c.y - b.y);
            sharpest = fmin(sharpest, (ux * vx + uy * vy) / (hypot(ux, uy) * hypot(vx, vy)));
        }
        assert_true(sharpest > -0.5);
        if (!inside) continue;
        measured++;
        if (fabs(1 - kept(&mask, FINE) - fabs(area)) > 0.004)
            fail_msg("mask %d covers %.4f, its outline encloses %.4f", (int)i, 1 - kept(&mask, FINE), fabs(area));
    }
    assert_true(measured > 100);
}

/* The shapes are of the unit square: twice as many pixels show the same, and the pixels that one in `step` is taken of
 * are those of the larger picture. */
static void any_size_is_the_same(void **state)
{
    (void)state;
    enum { STEP = 8, LARGE = 16 * STEP };
    const MaskConfig masks = configure("{}");
    static float small[16 * 16], large[LARGE * LARGE];
    for (uint64_t i = 0; i < 300; i++) {
        Mask mask, again;
        memset(&again, 0xff, sizeof again);
        memset(&mask, 0, sizeof mask);
        mask_draw(&masks, 8, i, &mask);
        mask_draw(&masks, 8, i, &again);
        assert_int_equal(mask.count, again.count);
        for (int32_t s = 0; s < mask.count; s++) {
            assert_int_equal(mask.shape[s].kind, again.shape[s].kind);
            assert_memory_equal(mask.shape[s].point, again.shape[s].point,
                                (size_t)mask.shape[s].count * sizeof(MaskPoint));
        }
        assert_true(fabs(kept(&mask, 128) - kept(&mask, 256)) < 0.02);
        mask_rasterise(&mask, 16, STEP, small);
        mask_rasterise(&mask, LARGE, 1, large);
        for (int y = 0; y < 16; y++)
            for (int x = 0; x < 16; x++) assert_true(small[y * 16 + x] == large[y * STEP * LARGE + x * STEP]);
    }
}

/* Samples and seeds have masks of their own. */
static void samples_differ(void **state)
{
    (void)state;
    const MaskConfig masks = only(MASK_BOX, 0);
    Mask a, b, c;
    mask_draw(&masks, 1, 1000, &a);
    mask_draw(&masks, 1, 1001, &b);
    mask_draw(&masks, 2, 1000, &c);
    assert_memory_not_equal(a.shape[0].point, b.shape[0].point, 2 * sizeof(MaskPoint));
    assert_memory_not_equal(a.shape[0].point, c.shape[0].point, 2 * sizeof(MaskPoint));
}

static void refusals(void **state)
{
    (void)state;
    static const struct {
        const char *text, *words[2];
    } cases[] = {
        {"{box: 0, polygon: 0, stroke: 0, frame: 0, whole: 0}", {"inpainting.box", "at least one kind"}},
        {"box_min: 0.7", {"inpainting.box_min", "inpainting.box_max, 0.6"}},
        {"polygon_max: 0.1", {"inpainting.polygon_min", "between the two"}},
        {"stroke_min: 0.3", {"inpainting.stroke_min", "0.2"}},
        {"{frame_min: 0.3, frame_max: 0.2}", {"inpainting.frame_min", "0.2"}},
    };
    for (size_t k = 0; k < sizeof cases / sizeof cases[0]; k++) {
        MaskConfig masks;
        Config *config = NULL;
        assert_ok(config_load("masks.yaml", cases[k].text, &MASK_CONFIG_SCHEMA, NULL, 0, &masks, &config));
        assert_int_equal(mask_config_check(&masks, config, "inpainting"), ERR_CONFIG);
        check_message(cases[k].words[0]);
        check_message(cases[k].words[1]);
        config_free(config);
    }
    MaskConfig masks;
    Config *config = NULL;
    assert_int_equal(config_load("masks.yaml", "frame_max: 0.6", &MASK_CONFIG_SCHEMA, NULL, 0, &masks, &config),
                     ERR_CONFIG);
    check_message("frame_max");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(shares_match),
        cmocka_unit_test(shares_of_nothing),
        cmocka_unit_test(areas_match),
        cmocka_unit_test(polarity),
        cmocka_unit_test(strokes_are_brushed),
        cmocka_unit_test(polygons_are_filled),
        cmocka_unit_test(any_size_is_the_same),
        cmocka_unit_test(samples_differ),
        cmocka_unit_test(refusals),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
