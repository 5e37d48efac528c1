/* What is written for TensorBoard: its records and messages, and that a run goes on where they cannot be written. What
 * TensorBoard's own writer makes is in tensorboard/ (tests/interop/make_tensorboard_events.py); its own reader is tried
 * by hand (tests/interop/check_tensorboard.sh). */
#include "../base/check.h"
#include "../base/temp_dir.h"

#include <math.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "base/file.h"
#include "event_reader.h"
#include "train/tensorboard.h"
#include "train/watch.h"

typedef Vasily__Tensorboard__Event Event;
typedef Vasily__Tensorboard__Summary__Value Value;

static EventRecords records;

/* The only event file of a folder, or the last. */
static const char *newest(const char *folder)
{
    static char path[PATH_MAX];
    char **names = NULL;
    size_t count = 0;
    assert_ok(file_list(folder, &names, &count));
    assert_true(count > 0);
    assert_ok(path_join(path, sizeof path, folder, names[count - 1]));
    file_free_list(names, count);
    return path;
}

static void read_all(const char *path)
{
    if (!event_records_read(path, &records)) fail_msg("%s: %s", path, records.fault);
}

static JsonDoc *json(const char *text)
{
    JsonDoc *doc;
    assert_ok(json_parse(text, strlen(text), 1 << 20, &doc));
    return doc;
}

/* ---- records ---- */

/* Made by TensorBoard's own writer: the checksums, the framing and the fields are those. */
static void test_their_file(void **state)
{
    (void)state;
    read_all(TEST_SOURCE_DIR "/train/tensorboard/events.out.tfevents.1700000000.fixture");
    assert_int_equal(records.count, 6);
    Event *const *events = records.events;
    assert_int_equal(events[0]->what_case, VASILY__TENSORBOARD__EVENT__WHAT_FILE_VERSION);
    assert_string_equal(events[0]->file_version, "brain.Event:2");
    assert_int_equal(events[1]->what_case, VASILY__TENSORBOARD__EVENT__WHAT_SESSION_LOG);
    assert_int_equal(events[1]->session_log->status, VASILY__TENSORBOARD__SESSION_LOG__SESSION_STATUS__START);
    assert_int_equal(events[1]->step, 41);
    const Value *loss = event_value(events[2], "train/loss");
    assert_non_null(loss);
    assert_int_equal(loss->value_case, VASILY__TENSORBOARD__SUMMARY__VALUE__VALUE_SIMPLE_VALUE);
    assert_true(loss->simple_value == 0.125f);
    assert_int_equal(events[2]->step, 50);
    assert_true(events[2]->wall_time == 1700000002.5);
    assert_true(event_value(events[3], "train/zero")->simple_value == 0.0f);
    const Value *picture = event_value(events[4], "previews");
    assert_non_null(picture);
    assert_int_equal(picture->value_case, VASILY__TENSORBOARD__SUMMARY__VALUE__VALUE_IMAGE);
    assert_int_equal(picture->image->width, 3);
    assert_int_equal(picture->image->height, 2);
    assert_int_equal(picture->image->colorspace, 3);
    const Value *text = event_value(events[5], "config");
    assert_non_null(text);
    assert_int_equal(text->value_case, VASILY__TENSORBOARD__SUMMARY__VALUE__VALUE_TENSOR);
    assert_int_equal(text->tensor->dtype, 7);
    assert_string_equal(text->metadata->plugin_data->plugin_name, "text");
    assert_memory_equal(text->tensor->string_val[0].data, "seed: 7", 7);
    event_records_free(&records);
}

/* Whatever byte is changed, a reader that checks finds it. */
static void test_changed_bytes(void **state)
{
    char *data;
    size_t size;
    (void)state;
    assert_ok(
        file_read(TEST_SOURCE_DIR "/train/tensorboard/events.out.tfevents.1700000000.fixture", 1 << 20, &data, &size));
    for (size_t i = 0; i < size; i++) {
        data[i] ^= 0x10;
        assert_false(event_records_parse(data, size, &records));
        event_records_free(&records);
        data[i] ^= 0x10;
    }
    assert_true(event_records_parse(data, size, &records));
    event_records_free(&records);
    free(data);
}

static void test_names_grow(void **state)
{
    (void)state;
    char folder[512], last[PATH_MAX] = "";
    snprintf(folder, sizeof folder, "%s", temp_path("names"));
    for (int i = 0; i < 3; i++) {
        EventFile file;
        assert_ok(event_file_create(folder, &file));
        assert_true(strcmp(file.path, last) > 0); /* as readers sort them, within a second too */
        snprintf(last, sizeof last, "%s", file.path);
        event_file_close(&file);
        assert_string_equal(newest(folder), last);
    }
}

/* ---- what is in them ---- */

static void test_numbers(void **state)
{
    (void)state;
    TensorBoard *board;
    const char *folder = temp_path("numbers");
    assert_ok(tensorboard_open(folder, 0, &board));
    JsonDoc *line = json("{\"step\": 10, \"loss\": 0.5, \"grad_norm\": null, \"skipped\": false, \"peak_bytes\": 3000, "
                         "\"data_wait_seconds\": 0.25, \"stage\": \"first\", \"loss_z\": -1.5, "
                         "\"data\": {\"threads\": {\"read\": 0.125}, \"passed_over\": {\"bad_png\": 3}}}");
    assert_ok(tensorboard_metrics(board, 10, json_root(line)));
    json_free(line);
    line = json("{\"step\": 10, \"weights\": \"ema\", \"loss\": 0.75, \"mse\": 0.5, \"vb\": 0.25, "
                "\"by_timestep\": [[50, 2.5], [999, 0.125], [\"x\"], 3]}");
    assert_ok(tensorboard_validation(board, 10, json_root(line)));
    json_free(line);
    assert_ok(tensorboard_flush(board));
    tensorboard_close(board);

    read_all(newest(folder));
    assert_int_equal(records.count, 4);
    assert_string_equal(records.events[0]->file_version, "brain.Event:2");
    assert_int_equal(records.events[1]->session_log->status, VASILY__TENSORBOARD__SESSION_LOG__SESSION_STATUS__START);
    assert_int_equal(records.events[1]->step, 1);
    const Event *step = records.events[2], *validation = records.events[3];
    assert_int_equal(step->step, 10);
    assert_true(step->wall_time > 1.6e9);
    assert_int_equal(step->summary->n_value, 6); /* and nothing of what is no number, or not finite */
    assert_true(event_value(step, "train/loss")->simple_value == 0.5f);
    assert_true(event_value(step, "train/loss_z")->simple_value == -1.5f);
    assert_true(event_value(step, "memory/peak_bytes")->simple_value == 3000.0f);
    assert_true(event_value(step, "data/wait_seconds")->simple_value == 0.25f);
    assert_true(event_value(step, "data/threads/read")->simple_value == 0.125f);
    assert_true(event_value(step, "data/passed_over/bad_png")->simple_value == 3.0f);
    assert_int_equal(validation->summary->n_value, 5);
    assert_true(event_value(validation, "validation/loss_ema")->simple_value == 0.75f);
    assert_true(event_value(validation, "validation/vb_ema")->simple_value == 0.25f);
    assert_true(event_value(validation, "validation_by_timestep_ema/0050")->simple_value == 2.5f);
    assert_true(event_value(validation, "validation_by_timestep_ema/0999")->simple_value == 0.125f);
    event_records_free(&records);
}

static void test_text_and_picture(void **state)
{
    (void)state;
    static const uint8_t png[] = {0x89, 'P', 'N', 'G', '\r', '\n', 0x1a, '\n', 0, 0, 0, 13, 'I', 'H', 'D', 'R',
                                  0,    0,   1,   44,  0,    0,    0,    7,    8, 2, 0, 0,  0,   1,   2};
    TensorBoard *board;
    const char *folder = temp_path("pictures");
    assert_ok(tensorboard_open(folder, 20, &board));
    assert_ok(tensorboard_text(board, 20, "config", "seed: 7\nrun:\n  dir: x"));
    assert_ok(tensorboard_png(board, 30, "previews", png, sizeof png));
    assert_fails(tensorboard_png(board, 30, "previews", "GIF89a and more of it, so that it is long", 40), ERR_FORMAT,
                 "no PNG");
    assert_ok(tensorboard_flush(board));
    tensorboard_close(board);
    read_all(newest(folder));
    assert_int_equal(records.count, 4);
    assert_int_equal(records.events[1]->step, 21); /* steps up to 20 stay */
    const Value *text = event_value(records.events[2], "config");
    assert_string_equal(text->metadata->plugin_data->plugin_name, "text");
    assert_int_equal(text->tensor->tensor_shape->n_dim, 1);
    assert_int_equal(text->tensor->tensor_shape->dim[0]->size, 1);
    static const char shown[] = "    seed: 7\n    run:\n      dir: x\n";
    assert_int_equal(text->tensor->string_val[0].len, sizeof shown - 1);
    assert_memory_equal(text->tensor->string_val[0].data, shown, sizeof shown - 1);
    const Value *picture = event_value(records.events[3], "previews");
    assert_int_equal(picture->image->width, 300);
    assert_int_equal(picture->image->height, 7);
    assert_int_equal(picture->image->encoded_image_string.len, sizeof png);
    assert_memory_equal(picture->image->encoded_image_string.data, png, sizeof png);
    event_records_free(&records);
}

/* ---- a run's watch ---- */

static RunConfig config;
static RunDir dir;

static void open_watch(const char *name, int64_t step, Watch **out)
{
    config = (RunConfig){.watch = {.tensorboard = true, .every = 5, .report = true}, .checkpoint = {.every = 0}};
    assert_ok(run_dir_name(temp_path(name), &dir));
    assert_ok(file_make_dirs(dir.previews));
    assert_ok(watch_open(&(WatchOptions){.run = &config, .dir = &dir, .config = "seed: 7\n", .step = step}, out));
}

static void make_steps(Watch *watch, int64_t from, int64_t to)
{
    for (int64_t step = from; step <= to; step++) {
        char line[100];
        snprintf(line, sizeof line, "{\"step\": %lld, \"loss\": %g}\n", (long long)step, 1.0 / (double)step);
        assert_ok(file_append_line(dir.metrics, line));
        watch_step(watch, step, line, strlen(line));
    }
}

static void test_schedule_and_validation(void **state)
{
    (void)state;
    Watch *watch;
    char path[PATH_MAX];
    open_watch("schedule", 0, &watch);
    assert_ok(path_join(path, sizeof path, dir.path, "validation.jsonl"));
    assert_ok(file_append_line(path, "{\"step\": 0, \"weights\": \"live\", \"loss\": 2.0}\n"));
    make_steps(watch, 1, 11);
    assert_ok(file_append_line(path, "{\"step\": 11, \"weights\": \"live\", \"loss\": 1.5}\n"));
    make_steps(watch, 12, 12);
    watch_close(watch);
    char folder[PATH_MAX];
    assert_ok(path_join(folder, sizeof folder, dir.path, "tensorboard"));
    read_all(newest(folder));
    int losses = 0, validations = 0;
    for (size_t i = 0; i < records.count; i++) {
        const Value *loss = event_value(records.events[i], "train/loss");
        const Value *validation = event_value(records.events[i], "validation/loss_live");
        if (loss) {
            losses++;
            assert_int_equal(records.events[i]->step, 5 * losses);
            assert_true(loss->simple_value == (float)(1.0 / (5 * losses)));
        }
        if (validation) assert_int_equal(records.events[i]->step, 11 * validations++);
    }
    assert_int_equal(losses, 2);
    assert_int_equal(validations, 2);
    event_records_free(&records);
    assert_ok(path_join(path, sizeof path, dir.path, "report.html"));
    assert_true(file_exists(path));

    /* Started again from step 11: a new file, which has only what is new. */
    open_watch("schedule", 11, &watch);
    assert_ok(path_join(path, sizeof path, dir.path, "validation.jsonl"));
    assert_ok(file_append_line(path, "{\"step\": 11, \"weights\": \"ema\", \"loss\": 1.25}\n"));
    make_steps(watch, 12, 15);
    watch_close(watch);
    read_all(newest(folder));
    assert_int_equal(records.count, 5);
    assert_int_equal(records.events[1]->step, 12);
    assert_int_equal(records.events[3]->step, 11); /* measured by this start, before its first step */
    assert_true(event_value(records.events[3], "validation/loss_ema")->simple_value == 1.25f);
    assert_int_equal(records.events[4]->step, 15);
    event_records_free(&records);

    /* And from step 15, at which a signal had ended the validation: it is made up for. */
    open_watch("schedule", 15, &watch);
    assert_ok(path_join(path, sizeof path, dir.path, "validation.jsonl"));
    assert_ok(file_append_line(path, "{\"step\": 15, \"weights\": \"live\", \"loss\": 1.25}\n"));
    make_steps(watch, 16, 16);
    watch_close(watch);
    read_all(newest(folder));
    assert_int_equal(records.count, 4);
    assert_int_equal(records.events[3]->step, 15);
    assert_true(event_value(records.events[3], "validation/loss_live")->simple_value == 1.25f);
    event_records_free(&records);
}

/* A disk that takes no more: no error, and what was whole stays whole. */
static void test_full_disk(void **state)
{
    (void)state;
    Watch *watch;
    struct rlimit before, small = {.rlim_cur = 600};
    open_watch("full", 0, &watch);
    signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    small.rlim_max = before.rlim_max;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
    for (int64_t step = 1; step <= 20000; step++) {
        char line[64];
        snprintf(line, sizeof line, "{\"step\": %lld, \"loss\": 1.0}\n", (long long)step);
        watch_step(watch, step, line, strlen(line));
    }
    watch_close(watch); /* the report does not fit either */
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
    char folder[PATH_MAX], *data;
    size_t size;
    assert_ok(path_join(folder, sizeof folder, dir.path, "tensorboard"));
    assert_ok(file_read(newest(folder), 1 << 20, &data, &size));
    assert_true(size <= 600);
    assert_false(event_records_parse(data, size, &records)); /* the last record is torn, those before are there */
    assert_true(records.count > 4);
    event_records_free(&records);
    free(data);
}

static void test_no_folder(void **state)
{
    (void)state;
    Watch *watch;
    const char *path = temp_path("blocked");
    assert_ok(file_make_dirs(path));
    temp_write("blocked/tensorboard", "x", 1);
    open_watch("blocked", 0, &watch);
    make_steps(watch, 1, 10);
    watch_preview(watch, 10);
    watch_close(watch);
    watch_step(NULL, 1, "", 0); /* ranks that write nothing */
    watch_preview(NULL, 1);
    watch_close(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_their_file),       cmocka_unit_test(test_changed_bytes),
        cmocka_unit_test(test_names_grow),       cmocka_unit_test(test_numbers),
        cmocka_unit_test(test_text_and_picture), cmocka_unit_test(test_schedule_and_validation),
        cmocka_unit_test(test_full_disk),        cmocka_unit_test(test_no_folder),
    };
    return cmocka_run_group_tests(tests, temp_dir_setup, temp_dir_teardown);
}
