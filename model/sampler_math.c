/* The arithmetic beside the steps: percentile, guidance, noise, mask. */
#include <math.h>

#include "base/random.h"
#include "model/sampler.h"

/* Puts the k-th smallest of values at place k, smaller ones before it (Hoare's selection). */
static void select_kth(float *values, int64_t count, int64_t k)
{
    int64_t low = 0, high = count - 1;
    while (low < high) {
        float pivot = values[low + (high - low) / 2];
        int64_t i = low, j = high;
        while (i <= j) {
            while (values[i] < pivot) i++;
            while (values[j] > pivot) j--;
            if (i <= j) {
                float swap = values[i];
                values[i++] = values[j];
                values[j--] = swap;
            }
        }
        if (k <= j)
            high = j;
        else if (k >= i)
            low = i;
        else
            return;
    }
}

float sampler_percentile(float *values, int64_t count, double percentile)
{
    double at = percentile / 100 * (double)(count - 1);
    int64_t below = (int64_t)floor(at);
    select_kth(values, count, below);
    float low = values[below];
    if (below + 1 >= count) return low;
    float high = values[below + 1]; /* the smallest of those above */
    for (int64_t i = below + 2; i < count; i++)
        if (values[i] < high) high = values[i];
    return (float)(low + (high - (double)low) * (at - (double)below));
}

void sampler_guide(float *cond, const float *uncond, int64_t rows, int64_t channels, float scale)
{
    for (int64_t r = 0; r < rows; r++)
        for (int64_t c = 0; c < channels; c++) {
            int64_t k = r * 2 * channels + c;
            cond[k] = uncond[k] + scale * (cond[k] - uncond[k]);
        }
}

void sampler_start_noise(uint64_t seed, uint64_t picture, float *x, int64_t count)
{
    random_normal(seed, RANDOM_SAMPLE_START, picture, 0, x, (size_t)count);
}

void sampler_step_noise(uint64_t seed, uint64_t picture, int32_t i, float *noise, int64_t count)
{
    /* A picture has 1024 indices; steps beyond them take later elements of the same ones. */
    uint64_t padded = ((uint64_t)count + 3) / 4 * 4, first = (uint64_t)i / 1024 * padded;
    random_normal(seed, RANDOM_SAMPLE_STEP, picture * 1024 + (uint64_t)i % 1024, first, noise, (size_t)count);
}

void sampler_latent_mask(const float *pixels, int64_t height, int64_t width, int64_t h, int64_t w, float *scratch,
                         float *latent)
{
    static const int neighbours[6][2] = {{-1, 0}, {0, -1}, {-1, -1}, {1, 0}, {0, 1}, {1, 1}};
    for (int64_t y = 0; y < h; y++)
        for (int64_t x = 0; x < w; x++)
            scratch[y * w + x] = latent[y * w + x] = pixels[y * height / h * width + x * width / w];
    for (int64_t y = 0; y < h; y++)
        for (int64_t x = 0; x < w; x++) {
            if (scratch[y * w + x] == 1) continue;
            for (int k = 0; k < 6; k++) {
                int64_t ny = y + neighbours[k][0], nx = x + neighbours[k][1];
                if (ny >= 0 && nx >= 0 && ny < h && nx < w) latent[ny * w + nx] = 0;
            }
        }
}
