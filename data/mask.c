#include "data/mask.h"

#include <math.h>
#include <stdbool.h>
#include <stddef.h>

#include "base/random.h"

#define TURN 6.283185307179586

enum {
    DRAWS = 64,        /* random numbers set aside for each shape, so that none depends on how many another took */
    CORNERS_LEAST = 3, /* of a polygon */
    CORNERS_MOST = 8,  /* MASK_POINTS are CORNERS_MOST x ROUNDING */
    ROUNDING = 8,      /* points of the outline for each corner */
    PIECES_LEAST = 2,  /* of a stroke */
    PIECES_MOST = 6,   /* straight pieces */
    CROSSINGS = MASK_POINTS
};

/* ---- drawing ---- */

/* The random numbers of one shape, one after the other. */
typedef struct Dice {
    uint64_t seed, index, next;
} Dice;

static double uniform(Dice *dice)
{
    return (double)random_uniform(dice->seed, RANDOM_MASK, dice->index, dice->next++);
}

static double between(Dice *dice, double low, double high)
{
    return low + (high - low) * uniform(dice);
}

/* A whole number from low to high, both included. */
static int32_t whole_between(Dice *dice, int32_t low, int32_t high)
{
    return low + (int32_t)random_below(dice->seed, RANDOM_MASK, dice->index, dice->next++, (uint64_t)(high - low) + 1);
}

static MaskPoint point(double x, double y)
{
    return (MaskPoint){(float)x, (float)y};
}

/* The kind at a place u in [0,1) of the first `kinds` shares laid end to end. */
static MaskKind kind_at(const MaskConfig *config, int kinds, double u)
{
    double sum = 0;
    int last = 0;
    for (int k = 0; k < kinds; k++) {
        sum += config->share[k];
        if (config->share[k] > 0) last = k;
    }
    double at = u * sum;
    for (int k = 0; k < last; k++) {
        if (at < config->share[k]) return (MaskKind)k;
        at -= config->share[k];
    }
    return (MaskKind)last;
}

/* Wholly inside. */
static void draw_box(const MaskConfig *config, Dice *dice, MaskShape *out)
{
    double width = between(dice, config->box.min, config->box.max);
    double height = between(dice, config->box.min, config->box.max);
    double x = between(dice, 0, 1 - width), y = between(dice, 0, 1 - height);
    out->count = 2;
    out->point[0] = point(x, y);
    out->point[1] = point(x + width, y + height);
}

/* Piece t in [0,1) of the spline at corner b, between its neighbours a and c: from the middle of (a,b) to that of
 * (b,c), leaving and arriving along the edges. */
static MaskPoint spline_at(MaskPoint a, MaskPoint b, MaskPoint c, double t)
{
    double before = 0.5 * (1 - t) * (1 - t), after = 0.5 * t * t, here = 1 - before - after;
    return point(before * a.x + here * b.x + after * c.x, before * a.y + here * b.y + after * c.y);
}

/* The corners stand around a centre that lies in the picture, at angles that are evenly spread and then shaken a
 * little, 0.4 to 1 of the radius away; beyond the picture's sides the shape is cut off. */
static void draw_polygon(const MaskConfig *config, Dice *dice, MaskShape *out)
{
    MaskPoint corner[CORNERS_MOST] = {{0}};
    double radius = 0.5 * between(dice, config->polygon.min, config->polygon.max);
    double x = uniform(dice), y = uniform(dice), phase = uniform(dice);
    int32_t corners = whole_between(dice, CORNERS_LEAST, CORNERS_MOST);
    for (int32_t i = 0; i < corners; i++) {
        double angle = TURN * (phase + (i + between(dice, 0, 0.8)) / corners);
        double distance = radius * between(dice, 0.4, 1);
        corner[i] = point(x + distance * cos(angle), y + distance * sin(angle));
    }
    out->count = corners * ROUNDING;
    for (int32_t k = 0; k < out->count; k++) {
        int32_t i = k / ROUNDING;
        out->point[k] = spline_at(corner[(i + corners - 1) % corners], corner[i], corner[(i + 1) % corners],
                                  (double)(k % ROUNDING) / ROUNDING);
    }
}

/* It begins in the picture and may leave it; from piece to piece it turns by at most a quarter. */
static void draw_stroke(const MaskConfig *config, Dice *dice, MaskShape *out)
{
    out->radius = (float)(0.5 * between(dice, config->stroke.min, config->stroke.max));
    double x = uniform(dice), y = uniform(dice), direction = uniform(dice);
    int32_t pieces = whole_between(dice, PIECES_LEAST, PIECES_MOST);
    out->point[0] = point(x, y);
    for (int32_t i = 1; i <= pieces; i++) {
        double length = between(dice, 0.1, 0.4);
        x += length * cos(TURN * direction);
        y += length * sin(TURN * direction);
        out->point[i] = point(x, y);
        direction += between(dice, -0.25, 0.25);
    }
    out->count = pieces + 1;
}

/* Every choice of at least one side is as likely as any other. */
static void draw_frame(const MaskConfig *config, Dice *dice, MaskShape *out)
{
    double width[4];
    int32_t sides = whole_between(dice, 1, 15);
    for (int k = 0; k < 4; k++) {
        double drawn = between(dice, config->frame.min, config->frame.max);
        width[k] = sides >> k & 1 ? drawn : 0;
    }
    out->count = 2;
    out->point[0] = point(width[0], width[1]);
    out->point[1] = point(1 - width[2], 1 - width[3]);
}

static void draw_shape(const MaskConfig *config, MaskKind kind, Dice *dice, MaskShape *out)
{
    out->kind = kind;
    out->count = 0;
    out->radius = 0;
    if (kind == MASK_BOX) draw_box(config, dice, out);
    if (kind == MASK_POLYGON) draw_polygon(config, dice, out);
    if (kind == MASK_STROKE) draw_stroke(config, dice, out);
    if (kind == MASK_FRAME) draw_frame(config, dice, out);
}

/* Whether there is anything that could come on top of a first shape. */
static bool can_add(const MaskConfig *config)
{
    return config->share[MASK_BOX] + config->share[MASK_POLYGON] + config->share[MASK_STROKE] > 0;
}

double mask_more_share(const MaskConfig *config)
{
    double sum = 0;
    for (int k = 0; k < MASK_KINDS; k++) sum += config->share[k];
    return can_add(config) ? config->more * (1 - config->share[MASK_WHOLE] / sum) : 0;
}

void mask_draw(const MaskConfig *config, uint64_t seed, uint64_t index, Mask *out)
{
    const bool more = can_add(config);
    out->count = 0;
    for (int32_t i = 0; i < MASK_SHAPES; i++) {
        Dice dice = {seed, index, (uint64_t)i * DRAWS};
        const double on = uniform(&dice), which = uniform(&dice);
        if (i > 0 && (on >= config->more || !more)) return;
        MaskKind kind = kind_at(config, i == 0 ? MASK_KINDS : MASK_STROKE + 1, which);
        draw_shape(config, kind, &dice, &out->shape[out->count++]);
        if (kind == MASK_WHOLE) return;
    }
}

/* ---- in pixels ---- */

typedef struct Raster {
    int64_t side;
    double first, pitch; /* the middle of pixel k is first + k pitch */
    float *out;
} Raster;

/* The first pixel whose middle is at `at` or behind it, of [0, side]. */
static int64_t pixel_from(const Raster *r, double at)
{
    double k = ceil((at - r->first) / r->pitch);
    return k <= 0 ? 0 : k >= (double)r->side ? r->side : (int64_t)k;
}

/* Paints the pixels of row y with middles in [from, to). */
static void paint_span(const Raster *r, int64_t y, double from, double to)
{
    int64_t end = pixel_from(r, to);
    for (int64_t x = pixel_from(r, from); x < end; x++) r->out[y * r->side + x] = 0;
}

static void paint_box(const Raster *r, MaskPoint low, MaskPoint high)
{
    int64_t end = pixel_from(r, high.y);
    for (int64_t y = pixel_from(r, low.y); y < end; y++) paint_span(r, y, low.x, high.x);
}

static void paint_frame(const Raster *r, MaskPoint low, MaskPoint high)
{
    paint_box(r, (MaskPoint){0, 0}, (MaskPoint){1, low.y});
    paint_box(r, (MaskPoint){0, high.y}, (MaskPoint){1, 1});
    paint_box(r, (MaskPoint){0, 0}, (MaskPoint){low.x, 1});
    paint_box(r, (MaskPoint){high.x, 0}, (MaskPoint){1, 1});
}

/* Where the outline crosses the height y, sorted; each edge has its upper end and not its lower one. */
static int32_t find_crossings(const MaskShape *s, double y, double at[CROSSINGS])
{
    int32_t count = 0;
    for (int32_t i = 0; i < s->count; i++) {
        MaskPoint a = s->point[i], b = s->point[(i + 1) % s->count];
        if ((a.y <= y) == (b.y <= y)) continue;
        double x = (double)a.x + ((double)b.x - (double)a.x) * (y - (double)a.y) / ((double)b.y - (double)a.y);
        int32_t k = count++;
        for (; k > 0 && at[k - 1] > x; k--) at[k] = at[k - 1];
        at[k] = x;
    }
    return count;
}

/* Inside is what lies behind an odd number of crossings. */
static void paint_polygon(const Raster *r, const MaskShape *s)
{
    double at[CROSSINGS];
    for (int64_t y = 0; y < r->side; y++) {
        int32_t count = find_crossings(s, r->first + (double)y * r->pitch, at);
        for (int32_t k = 0; k + 1 < count; k += 2) paint_span(r, y, at[k], at[k + 1]);
    }
}

static double square(double x)
{
    return x * x;
}

/* The square of the distance of (x,y) from the piece ab. */
static double distance_from(MaskPoint a, MaskPoint b, double x, double y)
{
    double dx = (double)b.x - (double)a.x, dy = (double)b.y - (double)a.y, length = square(dx) + square(dy);
    double t = length > 0 ? ((x - (double)a.x) * dx + (y - (double)a.y) * dy) / length : 0;
    t = t < 0 ? 0 : t > 1 ? 1 : t;
    return square(x - (double)a.x - t * dx) + square(y - (double)a.y - t * dy);
}

static void paint_piece(const Raster *r, MaskPoint a, MaskPoint b, double radius)
{
    int64_t left = pixel_from(r, fmin((double)a.x, (double)b.x) - radius);
    int64_t right = pixel_from(r, fmax((double)a.x, (double)b.x) + radius);
    int64_t bottom = pixel_from(r, fmax((double)a.y, (double)b.y) + radius);
    for (int64_t y = pixel_from(r, fmin((double)a.y, (double)b.y) - radius); y < bottom; y++)
        for (int64_t x = left; x < right; x++)
            if (distance_from(a, b, r->first + (double)x * r->pitch, r->first + (double)y * r->pitch) < square(radius))
                r->out[y * r->side + x] = 0;
}

void mask_rasterise(const Mask *mask, int64_t side, int64_t step, float *out)
{
    const Raster r = {side, 0.5 / (double)(side * step), 1 / (double)side, out};
    for (int64_t k = 0; k < side * side; k++) out[k] = 1;
    for (int32_t i = 0; i < mask->count; i++) {
        const MaskShape *s = &mask->shape[i];
        if (s->kind == MASK_BOX) paint_box(&r, s->point[0], s->point[1]);
        if (s->kind == MASK_FRAME) paint_frame(&r, s->point[0], s->point[1]);
        if (s->kind == MASK_POLYGON) paint_polygon(&r, s);
        for (int32_t k = 0; s->kind == MASK_STROKE && k + 1 < s->count; k++)
            paint_piece(&r, s->point[k], s->point[k + 1], (double)s->radius);
        if (s->kind == MASK_WHOLE) paint_box(&r, (MaskPoint){0, 0}, (MaskPoint){1, 1});
    }
}
