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
    Tokenizer *tokenizers[2];              /* NULL: none */
    int32_t *empty_ids[2], *empty_mask[2]; /* of the empty caption */
    float levels[256];                     /* v / 127.5 - 1 */
} BatchMaker;

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
/* Row k is the accepted sample `candidate`, global index i: draws its caption and dropout, tokenizes, converts. */
Status batch_put(const BatchMaker *maker, OwnBatch *batch, int32_t k, int64_t i, const Candidate *candidate);
void batch_end(OwnBatch *batch, const Cursor *cursor); /* copies the cursor */

#endif
