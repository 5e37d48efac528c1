/* Runs side by side: how far they came, how well and how fast they learned, and in which keys of their configs they
 * differ. */
#ifndef TRAIN_COMPARE_H
#define TRAIN_COMPARE_H

#include "train/number_text.h"
#include "train/run_history.h"

enum { COMPARE_RUNS_MAX = 8, COMPARE_ROWS_MAX = 20 };

typedef struct CompareRow {
    const char *name;
    NumberText values[COMPARE_RUNS_MAX];
    int best; /* the run with the best value; -1: none is, or not for judging */
} CompareRow;

/* A key whose values are not the same in all runs. */
typedef struct CompareKey {
    char *key;
    char *values[COMPARE_RUNS_MAX]; /* NULL: that run's config has no such key */
} CompareKey;

typedef struct Comparison {
    const RunHistory *const *runs; /* borrowed, read */
    int count;
    char labels[COMPARE_RUNS_MAX][256]; /* the folders' names, or their paths where names are alike */
    CompareRow rows[COMPARE_ROWS_MAX];
    int row_count;
    CompareKey *keys;
    size_t key_count, key_capacity;
} Comparison;

/* `count`: 1 to COMPARE_RUNS_MAX. */
Status comparison_make(const RunHistory *const *runs, int count, Comparison *out);
void comparison_free(Comparison *comparison); /* zeroed is fine */

Status comparison_print(const Comparison *comparison, StrBuf *out); /* for a terminal */
Status comparison_page(const Comparison *comparison, StrBuf *out);  /* in compare_page.c */

#endif
