/* The parts of data_stats_collect. */
#ifndef DATA_DATA_STATS_INSIDE_H
#define DATA_DATA_STATS_INSIDE_H

#include "data/candidate.h"
#include "data/data_stats.h"

/* What is known of a sample before its verdict. */
typedef struct SeenSample {
    bool fields;                 /* they could be read; the rest is of them */
    double values[STATS_FIELDS]; /* NaN: missing */
    bool *left_out, *lacks;      /* (filters of its source) */
    size_t filter_capacity;
    int *languages;
    size_t language_count, language_capacity;
} SeenSample;

/* A thread that looks at shards, with counts of its own. */
typedef struct StatsLooker {
    CandidateContext context;
    CandidateScratch scratch;
    Candidate candidate;
    SeenSample seen;
    uint8_t *header; /* of a picture */
    size_t header_capacity;
    Status failure; /* of `look`, which cannot return one */
    DataStats *stats;
} StatsLooker;

/* Empty counts of a config's sources and their filters. */
Status stats_create(const DataConfig *data, const FilterSet *filters, int64_t min_side, DataStats **out);
/* Adds the counts of `from`. */
void stats_merge(DataStats *into, const DataStats *from);

/* CandidateLook of a StatsLooker: fills `seen`. */
void stats_look(void *looker, const Candidate *candidate, const SampleTable *table, const Sample *sample,
                const Metadata *meta, int64_t min_side);
/* Looks at one sample of an open window and counts it. */
Status stats_look_at(StatsLooker *looker, const ShardWindow *window, int32_t source, int32_t shard, int64_t sample);
void stats_looker_free(StatsLooker *looker); /* its buffers and counts, not itself */

#endif
