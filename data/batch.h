/* A batch of the loader's ring, and how accepted samples are put into it. */
#ifndef DATA_BATCH_H
#define DATA_BATCH_H

#include "data/candidate.h"
#include "data/loader.h"
#include "data/tokenizer.h"

/* What all batches of a loader share. */
typedef struct BatchMaker {
    const DataConfig *config;
    uint64_t seed;
    int32_t count, resolution;
    bool keys_only;
    const PrecomputedSpec *precomputed;    /* NULL: none */
    Tokenizer *tokenizers[2];              /* NULL: none */
    int32_t *empty_ids[2], *empty_mask[2]; /* of the empty caption */
} BatchMaker;

/* A row whose precomputed arrays a decode thread reads, straight into the batch. */
typedef struct BatchRow {
    WorkKind kind; /* WORK_ROW */
    Batch *batch;
    int32_t k, source, shard;
    int64_t first, window;   /* samples of the window that it is in */
    int64_t sample, caption; /* caption -1: the empty one */
    Status failed;
    char detail[512];
} BatchRow;

typedef struct OwnBatch {
    Batch batch; /* what the trainer sees */
    Cursor *cursor;
    StrBuf text;
    size_t *key_at, *caption_at, *language_at; /* (count) offsets into `text` while it grows */
} OwnBatch;

Status batch_maker_init(BatchMaker *maker, const DataConfig *config, const LoaderOptions *options);
void batch_maker_free(BatchMaker *maker);

Status batch_create(const BatchMaker *maker, const Cursor *shape, OwnBatch **out);
void batch_free(OwnBatch *batch);
void batch_begin(OwnBatch *batch, int64_t step);
/* Row k is the accepted sample `candidate`, global index i: draws its caption and dropout, tokenizes, takes its
 * picture in exchange for that of the row. With
 * precomputed arrays `row` is filled for batch_read_row. */
Status batch_put(const BatchMaker *maker, OwnBatch *batch, int32_t k, int64_t i, Candidate *candidate, BatchRow *row);
/* Whether rows have anything to read. */
bool batch_has_rows(const BatchMaker *maker);
void batch_read_row(ShardStore *store, PrecomputedScratch *scratch, BatchRow *row);
void batch_end(OwnBatch *batch, const Cursor *cursor); /* copies the cursor */

#endif
