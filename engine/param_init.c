/* First values of parameters, drawn by all processors. A number is a function of its place alone (base/random.h), so
 * it makes no difference who draws it. */
#include <pthread.h>
#include <sched.h>
#include <stdlib.h>

#include "base/hash.h"
#include "base/random.h"
#include "engine/params.h"

enum { PIECE = 1 << 18, THREADS_MAX = 256 }; /* PIECE: elements drawn at a time */

typedef struct Share {
    ParamStore *store;
    uint64_t seed;
    int64_t part, parts; /* of the pieces of all parameters, every parts-th from part on is ours */
} Share;

/* Elements [begin, begin + count) of a parameter. */
static void draw(const Param *param, uint64_t seed, int64_t begin, int64_t count, float *w)
{
    const uint64_t key = hash_string64(param->name);
    switch (param->init) {
    case PARAM_INIT_ZERO:
        for (int64_t e = 0; e < count; e++) w[e] = 0;
        break;
    case PARAM_INIT_ONE:
        for (int64_t e = 0; e < count; e++) w[e] = 1;
        break;
    case PARAM_INIT_UNIFORM:
        random_uniforms(seed, RANDOM_INIT, key, (uint64_t)begin, w, (size_t)count);
        for (int64_t e = 0; e < count; e++) w[e] = (2 * w[e] - 1) * param->init_scale;
        break;
    case PARAM_INIT_NORMAL:
        random_normal(seed, RANDOM_INIT, key, (uint64_t)begin, w, (size_t)count);
        for (int64_t e = 0; e < count; e++) w[e] *= param->init_scale;
        break;
    case PARAM_INIT_IDENTITY: {
        const int64_t columns = param->shape.dim[param->shape.ndim - 1];
        for (int64_t e = begin; e < begin + count; e++)
            w[e - begin] = e / columns == e % columns ? param->init_scale : 0;
        break;
    }
    }
}

static void *draw_share(void *context)
{
    const Share *share = context;
    int64_t piece = 0;
    for (int32_t i = 0; i < param_table_size(share->store->table); i++) {
        const Param *param = param_table_get(share->store->table, i);
        if (param_store_is_bound(share->store, i)) continue;
        for (int64_t begin = 0; begin < param->count; begin += PIECE) {
            if (piece++ % share->parts != share->part) continue;
            const int64_t count = param->count - begin < PIECE ? param->count - begin : PIECE;
            draw(param, share->seed, begin, count, param_store_weight(share->store, i) + begin);
        }
    }
    return NULL;
}

/* OMP_NUM_THREADS, or the processors this process may use. */
static int64_t thread_count(void)
{
    const char *told = getenv("OMP_NUM_THREADS");
    long number = told ? strtol(told, NULL, 10) : 0;
    cpu_set_t set;
    CPU_ZERO(&set);
    if (number < 1) number = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 1;
    return number < 1 ? 1 : number > THREADS_MAX ? THREADS_MAX : number;
}

void param_store_init(ParamStore *store, uint64_t seed)
{
    pthread_t thread[THREADS_MAX];
    Share share[THREADS_MAX];
    bool started[THREADS_MAX] = {false};
    int64_t elements = 0, parts = thread_count();
    for (int32_t i = 0; i < param_table_size(store->table); i++)
        if (!param_store_is_bound(store, i)) elements += param_table_get(store->table, i)->count;
    if (elements < 4 * PIECE) parts = 1;
    for (int64_t k = 0; k < parts; k++) share[k] = (Share){store, seed, k, parts};
    for (int64_t k = 1; k < parts; k++) started[k] = pthread_create(&thread[k], NULL, draw_share, &share[k]) == 0;
    for (int64_t k = 0; k < parts; k++)
        if (!started[k]) draw_share(&share[k]); /* ours, and those of threads that could not start */
    for (int64_t k = 1; k < parts; k++)
        if (started[k]) pthread_join(thread[k], NULL);
}
