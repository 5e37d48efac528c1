/* A run's numbers, pictures and config as TensorBoard reads them, in RUN/tensorboard/. Each start of the run writes a
 * file of its own, which begins with a mark that makes TensorBoard forget what lies after the step it starts from. */
#ifndef TRAIN_TENSORBOARD_H
#define TRAIN_TENSORBOARD_H

#include "base/json.h"
#include "train/event_file.h"

typedef struct TensorBoard TensorBoard;

/* `step`: steps done. */
Status tensorboard_open(const char *folder, int64_t step, TensorBoard **out);
Status tensorboard_text(TensorBoard *board, int64_t step, const char *tag, const char *text); /* as it is, monospaced */
/* A PNG file's bytes. */
Status tensorboard_png(TensorBoard *board, int64_t step, const char *tag, const void *png, size_t size);
/* The numbers of a line of metrics.jsonl, or of validation.jsonl, under the tags of tensorboard_tags.c. */
Status tensorboard_metrics(TensorBoard *board, int64_t step, const JsonValue *line);
Status tensorboard_validation(TensorBoard *board, int64_t step, const JsonValue *line);
/* At once, or where something has waited for EVENT_FILE_SECONDS. */
Status tensorboard_flush(TensorBoard *board);
Status tensorboard_flush_overdue(TensorBoard *board);
void tensorboard_close(TensorBoard *board); /* NULL is fine; does not flush */

/* "train/loss" of "loss", "data/threads/read" of "data.threads.read"; false: not shown. */
enum { TENSORBOARD_TAG_MAX = 160 };
bool tensorboard_metrics_tag(const char *name, char tag[TENSORBOARD_TAG_MAX]);

/* "protobuf-c 1.4.1", as loaded now. */
void tensorboard_library_version(char *out, size_t capacity);

#endif
