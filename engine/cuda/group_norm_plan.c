/* How group norm cuts its tensors into blocks: by shape alone, so that sums have the same order on every device. */
#include "engine/cuda/group_norm_kernels.h"

enum {
    TILE_CHANNELS = 1536,     /* of a block, at most: bounds the shared memory for coefficients */
    NARROW = 32,              /* columns below which a row of a tile is too short to read well: 512 bytes */
    SMALL_THREADS = 192,      /* four such blocks on a multiprocessor: 48 columns and their multiples divide them */
    SMALL_SHARED = 56 * 1024, /* what each of four can have */
    ROW = 128,                /* bytes of a position that a whole block takes if four blocks then still fit ... */
    ROW_GOOD = 64,            /* ... or even if only two fit ... */
    ROW_LEAST = 48,           /* ... and must take, unless it has all */
    PARTS = 16,               /* a sum over 384 rows is then two of 24 and 16 */
    ENOUGH_BLOCKS = 8 * 132,  /* so that the last ones do not leave most of a device idle */
    SECOND_PASS_PACKS = 16    /* columns for each thread of a kernel that keeps nothing */
};

static int64_t divide_up(int64_t a, int64_t b)
{
    return (a + b - 1) / b;
}

static int64_t least(int64_t a, int64_t b)
{
    return a < b ? a : b;
}

static int64_t greatest_divisor(int64_t a, int64_t b)
{
    return b == 0 ? a : greatest_divisor(b, a % b);
}

static void set_columns(NormCut *cut, int64_t columns, int32_t threads)
{
    cut->threads = threads;
    cut->columns = (int32_t)columns;
    cut->rows = (int32_t)(threads / columns);
    cut->tiles = (int32_t)divide_up(cut->c / cut->vector, columns);
    cut->parts = (int32_t)(threads / (columns * cut->vector));
    if (cut->parts < 1) cut->parts = 1;
    if (cut->parts > PARTS) cut->parts = PARTS;
    cut->spans = (int32_t)(cut->tiles == 1 ? 1 : divide_up(cut->width - 1, columns * cut->vector) + 1);
}

static void set_slice(NormCut *cut, int64_t positions)
{
    cut->slice = (int32_t)least(positions, cut->positions);
    cut->slices = (int32_t)divide_up(cut->positions, cut->slice);
}

/* Each thread has at most `packs` columns; fewer when there would be few blocks. */
static void set_slices(NormCut *cut, int32_t packs)
{
    while (packs > 1 && cut->n * cut->tiles * divide_up(cut->positions, (int64_t)packs * cut->rows) < ENOUGH_BLOCKS) {
        packs /= 2;
    }
    set_slice(cut, (int64_t)packs * cut->rows);
}

/* The width that leaves the fewest threads idle, among those that divide c; the narrowest of equals, since every block
 * has costs for each of its channels. */
static int64_t best_columns(const NormCut *cut)
{
    const int64_t all = cut->c / cut->vector;
    const int64_t most = least(SMALL_THREADS, TILE_CHANNELS / cut->vector);
    int64_t best = least(all, most), busy = all <= most ? SMALL_THREADS / all * all : 0;
    for (int64_t tiles = 2; tiles <= all / NARROW; tiles++) {
        const int64_t columns = all / tiles;
        if (all % tiles != 0 || columns > most) continue;
        if (SMALL_THREADS / columns * columns >= busy) {
            best = columns;
            busy = SMALL_THREADS / columns * columns;
        }
    }
    return best;
}

/* norm_sums() in norm_device.h lays it out. */
static size_t sums_bytes(const NormCut *cut)
{
    const int64_t plane = (int64_t)cut->vector * (cut->columns | 1);
    const int64_t rows = cut->rows > NORM_COEFFICIENTS ? cut->rows : NORM_COEFFICIENTS;
    const int64_t groups = (int64_t)cut->columns * cut->vector / cut->width + 2;
    return (size_t)((rows + cut->parts + 1) * plane + 2 * groups) * sizeof(float);
}

static void set_shared(NormPlan *plan, size_t element, bool gradient)
{
    const NormCut *cut = &plan->sums;
    const size_t packs = (size_t)divide_up(cut->slice, cut->rows) * (size_t)cut->rows * (size_t)cut->columns;
    plan->kept = plan->whole ? (packs * (size_t)cut->vector * element + 15) / 16 * 16 : 0;
    plan->shared = plan->kept * (gradient ? 2 : 1) + sums_bytes(cut);
}

/* A block has `groups` whole groups of a sample, if that fits. */
static bool try_whole(NormPlan *plan, int64_t groups, size_t element, bool gradient, size_t shared)
{
    NormCut *cut = &plan->sums;
    const int64_t columns = groups * cut->width / cut->vector;
    const int64_t bytes = cut->positions * columns * cut->vector * (int64_t)element;
    if (columns < 1 || columns > SMALL_THREADS || columns * cut->vector > TILE_CHANNELS || bytes > (int64_t)shared)
        return false;
    plan->whole = true;
    for (int32_t threads = SMALL_THREADS; threads <= NORM_THREADS; threads *= 2) {
        set_columns(cut, columns, threads);
        set_slice(cut, cut->positions);
        set_shared(plan, element, gradient);
        if (plan->shared <= SMALL_SHARED) break;
    }
    cut->spans = 1;
    return plan->shared <= shared;
}

static int64_t row_bytes(const NormPlan *plan, size_t element)
{
    return (int64_t)plan->sums.columns * plan->sums.vector * (int64_t)element;
}

static bool set_whole(NormPlan *plan, size_t element, bool gradient, size_t shared)
{
    const NormCut *cut = &plan->sums;
    const int64_t unit = cut->vector / greatest_divisor(cut->vector, cut->width); /* groups that end with a column */
    NormPlan best = {0};
    for (int64_t groups = unit; groups <= cut->groups; groups += unit) {
        NormPlan next = *plan;
        if (cut->groups % groups != 0) continue;
        if (!try_whole(&next, groups, element, gradient, shared)) break;
        if (best.whole && row_bytes(&best, element) >= ROW_GOOD && next.shared > SMALL_SHARED) break;
        best = next;
        if (row_bytes(&best, element) >= ROW) break;
    }
    if (!best.whole || (row_bytes(&best, element) < ROW_LEAST && best.sums.tiles > 1)) return false;
    *plan = best;
    return true;
}

NormPlan norm_plan(const Shape *x, Dtype type, int32_t groups, bool gradient, bool aligned, size_t shared)
{
    const size_t element = dtype_size(type);
    const int64_t n = x->dim[0], c = shape_last(x), vector = 16 / (int64_t)element;
    NormPlan plan = {.type = type,
                     .sums = {.n = n,
                              .positions = shape_rows(x) / n,
                              .c = c,
                              .groups = groups,
                              .width = (int32_t)(c / groups),
                              .vector = (int32_t)(aligned && c % vector == 0 ? vector : 1)}};
    if (set_whole(&plan, element, gradient, shared)) return plan;
    set_columns(&plan.sums, best_columns(&plan.sums), SMALL_THREADS);
    plan.apply = plan.sums;
    set_slices(&plan.apply, SECOND_PASS_PACKS);
    set_slices(&plan.sums, gradient ? SECOND_PASS_PACKS : NORM_SLICE_PACKS);
    set_shared(&plan, element, gradient);
    return plan;
}
