/* The held-out samples, kept in memory from the start of a run: each rank has those whose number is its own modulo the
 * ranks. Rank 0 reads the shards once, and hands every sample on. */
#ifndef TRAIN_VALIDATION_SAMPLES_H
#define TRAIN_VALIDATION_SAMPLES_H

#include "data/loader.h"
#include "engine/comm.h"
#include "train/run_config.h"

typedef struct ValidationSamples ValidationSamples;

/* Reads the first run->validation.samples accepted ones. ERR_CONFIG where the sources have fewer. `precomputed`: what
 * training reads of shards' outputs; only for the call. Rank 0 warns of shards that training reads, too. Collective. */
Status validation_samples_read(const RunConfig *run, const PrecomputedSpec *precomputed, Comm *comm,
                               ValidationSamples **out);
void validation_samples_free(ValidationSamples *samples); /* NULL is fine */
/* Bytes of those of one rank of `ranks`. */
int64_t validation_samples_bytes(const RunConfig *run, int64_t ranks);

int64_t validation_samples_own(const ValidationSamples *samples); /* of this rank */
/* The number, among all, of this rank's sample k. */
int64_t validation_samples_number(const ValidationSamples *samples, int64_t k);

/* A batch of `rows` samples as the loader makes them, to be filled in; the indices of its rows are the caller's. */
Status validation_batch_create(const ValidationSamples *samples, int32_t rows, Batch **out);
void validation_batch_free(Batch *batch); /* NULL is fine */
/* Row `row` becomes this rank's sample k; the samples must outlive the batch. */
void validation_batch_put(const ValidationSamples *samples, int64_t k, Batch *batch, int32_t row);

#endif
