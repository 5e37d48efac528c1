/* A shard of random bytes in a folder, a web server over it, and access to both: for tests of data/shard_file.h. */
#ifndef TESTS_DATA_SHARD_FIXTURE_H
#define TESTS_DATA_SHARD_FIXTURE_H

#include "data/shard_file.h"
#include "fault_server.h"
#include "shards.h"

#define BYTES 700001 /* of a.tar */
#define CHUNK 65536

extern char shard_folder[512];
extern StrBuf shard_content; /* of a.tar */
extern FaultServer *shard_server;
extern ReadConfig read_config; /* of shard_access: changed by tests */
extern ShardAccess *shard_access;
extern const FaultOptions HEALTHY;

int shards_set_up(void **state);
int shards_tear_down(void **state);
void restart_access(void);         /* nothing is cached any more, and all is counted from 0 */
const char *url(const char *name); /* valid until the 4th call after */
void set_fault(Fault fault, double share);
ShardFile *open_ok(const char *path);
void open_fails(const char *path, int64_t bytes, Status status, const char *part);
void expect_range(ShardFile *file, int64_t size, int64_t offset); /* as in a.tar */
ShardAccessStats stats(void);
int open_files(void);
void note_sums(const char *shard); /* its checksums, in the folder, and sets data.read.index_folder */

#endif
