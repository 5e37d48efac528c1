/* Precomputed outputs of the frozen networks: one HDF5 file a shard and kind, `STEM.latents-256.h5` (of one resolution)
 * and `STEM.text.h5`, beside the shard STEM.tar, or as FOLDER/SOURCE/STEM... where a folder is configured.
 *
 * A file has an entry for every sample of its shard, passed over or not, so that order, acceptance and the place in the
 * data are those of training from the shard. Rows exist for accepted samples only:
 *
 *   samples/reason         U8  (N)      SampleReason
 *   samples/keys           U8  (bytes)  keys one after another; samples/key_at I64 (N+1) tells where each begins
 *   latents: samples/row   I64 (N)      row of the accepted sample, else -1
 *            latents/moments    (rows, side, side, M)   what autoencoder_moments gives
 *   text:    samples/caption I64 (N+1)  the sample's captions are [caption[n], caption[n+1])
 *            captions/text  U8  (bytes) languages and captions; captions/at I64 (K,4): where, size of the language,
 * where, size of the caption captions/tokens1 I32 (K+1,T), captions/length1 I32 (K+1): tokens, and how many are not
 * padding captions/pooled1   (K+1,P), captions/states1 (R,D) the states' rows, captions/row1 I64 (K+2): those of
 *                                       caption k are [row1[k], row1[k+1])
 *            the same with 2 for the second encoder, which has no pooled state
 *
 * The last caption, K, is the empty one, for samples whose caption is dropped. A caption's rows are its tokens' (with
 * text_rows valid: the others are read as zeros), or all T with equal rows at the end stored once: XLM-R's padding rows
 * are all alike. Large arrays are f32, f16 or bf16. Attributes of the root: `format`, `shard` (base name),
 * `shard_index` (XXH3-128 over what lies where in the shard), `rows`, and what the numbers depend on
 * (PrecomputedFacts).
 *
 * All arrays are contiguous, so the HDF5 library is needed to open a file, not to read rows: that is plain pread, from
 * any number of threads. */
#ifndef DATA_PRECOMPUTED_H
#define DATA_PRECOMPUTED_H

#include <limits.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/arena.h"
#include "base/hash.h"
#include "base/status.h"
#include "data/bad_samples.h"
#include "data/data_config.h"
#include "data/shard_file.h"
#include "data/shard_list.h"
#include "data/tar_index.h"

typedef enum PrecomputedType { PRECOMPUTED_F32, PRECOMPUTED_F16, PRECOMPUTED_BF16 } PrecomputedType;
extern const char *const PRECOMPUTED_TYPE_WORDS[]; /* "f32", "f16", "bf16", NULL */

typedef enum PrecomputedKind { PRECOMPUTED_LATENTS, PRECOMPUTED_TEXT, PRECOMPUTED_KINDS } PrecomputedKind;
extern const char *const PRECOMPUTED_KIND_WORDS[]; /* "latents", "text": the keys of the config section `frozen` */

/* What a file's numbers depend on, as text: "data.filter" -> "watermark_max 0.5, ...". */
typedef struct PrecomputedFact {
    char *key, *value;
} PrecomputedFact;
typedef struct PrecomputedFacts {
    PrecomputedFact *items;
    size_t count, capacity;
} PrecomputedFacts;

Status precomputed_facts_add(PrecomputedFacts *facts, const char *key, const char *format, ...)
    __attribute__((format(printf, 3, 4)));
void precomputed_facts_free(PrecomputedFacts *facts);
/* What decides which samples and captions there are: filters, limits, choice of captions. */
Status precomputed_facts_of_data(const DataConfig *config, const SourceConfig *source, int64_t resolution,
                                 PrecomputedFacts *out);

enum { PRECOMPUTED_STAGE_MOST = 64 };

/* What a run reads, or `vasily precompute` writes. */
typedef struct PrecomputedSpec {
    bool wanted[PRECOMPUTED_KINDS];
    const char *path; /* folder; "": beside each shard */
    PrecomputedType type;
    int64_t resolution;                        /* pixels a side */
    int64_t side, moments;                     /* latents: (side, side, moments) */
    int64_t tokens, width1, pooled, width2;    /* text: (tokens, width1), (pooled), (tokens, width2) */
    bool valid_rows;                           /* padding rows need not be there */
    PrecomputedFacts facts[PRECOMPUTED_KINDS]; /* of the networks; those of the data come on top */
    char stage[PRECOMPUTED_STAGE_MOST + 1];    /* of the config, whose files these are; "": of none */
} PrecomputedSpec;
void precomputed_spec_free(PrecomputedSpec *spec); /* the facts */

/* What makes such files: "vasily precompute CONFIG", of a stage with its name. Errors propose it. */
typedef char PrecomputeCommand[PRECOMPUTED_STAGE_MOST + 40];
const char *precomputed_command(const PrecomputedSpec *spec, PrecomputeCommand out);

/* Bytes of a row in memory, as floats. */
int64_t precomputed_moment_values(const PrecomputedSpec *spec);

/* Where the file of a shard lies. Of a URL user and query are no part of that. ERR_CONFIG for a shard that is not a
 * file here when `path` is empty. */
Status precomputed_path(const PrecomputedSpec *spec, PrecomputedKind kind, const char *source, const char *shard,
                        char out[PATH_MAX]);

/* Shards of a pattern (as shard_list_add) for a run that reads no shard at all: what matches as a shard, and what has
 * precomputed files where the shard itself is gone. Appends paths of shards, whether they exist or not. Wildcards
 * within a list: file look for shards only. */
Status precomputed_list_shards(const PrecomputedSpec *spec, const char *source, const char *pattern, ShardList *list);

/* XXH3-128 over keys, suffixes, places and sizes of everything in a shard. */
Status precomputed_hash_index(const TarIndex *index, Hash128 *out);

/* ---- reading ---- */

typedef struct PrecomputedFile PrecomputedFile;

/* Opens and checks a file: sizes, and that it was made with `spec` and with the facts `data`. ERR_IO when it is not
 * there, ERR_MISMATCH names what differs, ERR_FORMAT when it is damaged. `spec` must outlive it. */
Status precomputed_open(const char *path, PrecomputedKind kind, const PrecomputedSpec *spec,
                        const PrecomputedFacts *data, PrecomputedFile **out);
void precomputed_close(PrecomputedFile *file); /* NULL is fine */
const char *precomputed_file_path(const PrecomputedFile *file);
const char *precomputed_shard(const PrecomputedFile *file); /* base name of the shard */
Hash128 precomputed_shard_index(const PrecomputedFile *file);
int64_t precomputed_samples(const PrecomputedFile *file);
int64_t precomputed_rows(const PrecomputedFile *file); /* accepted samples, or captions */

/* The functions below may be called by several threads at once. */

/* The verdict on a sample; its key is appended to `key`. */
Status precomputed_read_sample(const PrecomputedFile *file, int64_t sample, SampleReason *reason, StrBuf *key);
/* A thread's buffer. Zero-initialise. */
typedef struct PrecomputedScratch {
    uint8_t *bytes;
    size_t capacity;
} PrecomputedScratch;
void precomputed_scratch_free(PrecomputedScratch *scratch);

/* text: gives `add` the captions of a sample in order; they are numbered from *first on in this file. */
typedef Status (*PrecomputedAddCaption)(void *context, const char *language, size_t language_size, const char *text,
                                        size_t size);
Status precomputed_read_captions(const PrecomputedFile *file, PrecomputedScratch *scratch, int64_t sample,
                                 PrecomputedAddCaption add, void *context, int64_t *first);

/* latents: (side, side, moments) of an accepted sample. */
Status precomputed_read_moments(const PrecomputedFile *file, PrecomputedScratch *scratch, int64_t sample, float *out);

typedef struct PrecomputedText {
    int32_t *tokens1, *mask1, *tokens2, *mask2; /* (tokens) */
    float *states1, *pooled1, *states2;         /* (tokens, width1), (pooled), (tokens, width2) */
} PrecomputedText;
/* text: `caption` -1 is the empty caption. */
Status precomputed_read_text(const PrecomputedFile *file, PrecomputedScratch *scratch, int64_t caption,
                             const PrecomputedText *out);

/* ---- writing; appears whole, by rename, when finished ---- */

typedef struct PrecomputedWriter PrecomputedWriter;

/* `shard`: path of the tar; its index is hashed. Removes what an interrupted writer of the same file has left. */
Status precomputed_writer_create(const char *path, PrecomputedKind kind, const PrecomputedSpec *spec,
                                 const PrecomputedFacts *data, const char *shard, const TarIndex *index,
                                 PrecomputedWriter **out);
/* Every sample of the shard in its order. */
Status precomputed_writer_add_sample(PrecomputedWriter *writer, SampleReason reason, const char *key);
/* text: a caption of the sample added last. */
Status precomputed_writer_add_caption(PrecomputedWriter *writer, const char *language, const char *text, size_t size);
/* latents: of the accepted samples in order. Rounds; ERR_NUMERIC names the key when a value is not finite then. */
Status precomputed_writer_add_moments(PrecomputedWriter *writer, const char *key, const float *moments);
/* text: of the captions in order, and at last of the empty caption. */
Status precomputed_writer_add_text(PrecomputedWriter *writer, const char *key, const PrecomputedText *text);
Status precomputed_writer_finish(PrecomputedWriter *writer); /* ends the writer, also on failure */
void precomputed_writer_abort(PrecomputedWriter *writer);    /* leaves no file; NULL is fine */

#endif
