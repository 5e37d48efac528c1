#include "products.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PANEL = 8, ROWS = 4, DEPTH = 256 };

/* One copy of the loops for wide vectors, chosen when the program is loaded; sanitizers cannot bear that. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__) || defined(__clang__)
#define WIDE
#else
#define WIDE __attribute__((target_clones("default", "arch=haswell")))
#endif

float *emu_floats(int64_t count)
{
    float *memory = malloc(sizeof *memory * (size_t)(count > 0 ? count : 1));
    if (memory) return memory;
    fprintf(stderr, "emulated device: no memory for %lld values\n", (long long)count);
    abort();
}

Panels panels_of(const void *b, Dtype type, int64_t k, int64_t n, int64_t step_k, int64_t step_n)
{
    const int64_t panels = (n + PANEL - 1) / PANEL;
    Panels out = {k, n, emu_floats(panels * PANEL * k)};
#pragma omp parallel for
    for (int64_t p = 0; p < panels; p++) {
        float *to = out.data + p * PANEL * k;
        for (int64_t i = 0; i < k; i++) {
            for (int64_t j = 0; j < PANEL; j++) {
                const int64_t column = p * PANEL + j;
                to[i * PANEL + j] = column < n ? emu_get(b, type, i * step_k + column * step_n) : 0;
            }
        }
    }
    return out;
}

void panels_free(Panels *panels)
{
    free(panels->data);
    *panels = (Panels){0};
}

/* sum (ROWS,PANEL) += a (rows,depth) b (depth,PANEL); rows of a are `step` apart. */
WIDE static void multiply_tile(int64_t rows, int64_t depth, const float *a, int64_t step, const float *b, float *sum)
{
    float s[ROWS][PANEL];
    memcpy(s, sum, sizeof s);
    const float *r[ROWS];
    for (int64_t i = 0; i < ROWS; i++) r[i] = a + (i < rows ? i : 0) * step;
    for (int64_t k = 0; k < depth; k++) {
        for (int64_t i = 0; i < ROWS; i++) {
            for (int64_t j = 0; j < PANEL; j++) s[i][j] += r[i][k] * b[k * PANEL + j];
        }
    }
    memcpy(sum, s, sizeof s);
}

void panels_multiply(int64_t m, const float *a, const Panels *b, float *c, bool add)
{
    const int64_t k = b->k, n = b->n;
    for (int64_t column = 0; column < n; column += PANEL) {
        const float *panel = b->data + column * k;
        const int64_t width = n - column < PANEL ? n - column : PANEL;
        for (int64_t row = 0; row < m; row += ROWS) {
            const int64_t rows = m - row < ROWS ? m - row : ROWS;
            double total[ROWS * PANEL] = {0};
            for (int64_t at = 0; at < k; at += DEPTH) {
                float sum[ROWS * PANEL] = {0};
                const int64_t depth = k - at < DEPTH ? k - at : DEPTH;
                multiply_tile(rows, depth, a + row * k + at, k, panel + at * PANEL, sum);
                for (int i = 0; i < ROWS * PANEL; i++) total[i] += (double)sum[i];
            }
            for (int64_t i = 0; i < rows; i++) {
                for (int64_t j = 0; j < width; j++) {
                    float *to = &c[(row + i) * n + column + j];
                    *to = (float)(total[i * PANEL + j] + (add ? (double)*to : 0));
                }
            }
        }
    }
}
