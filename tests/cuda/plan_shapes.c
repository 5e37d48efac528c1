/* plan_shapes PROPERTIES SHAPES [CACHE [deterministic]]: plans every convolution and attention of a list for the device
 * that the file PROPERTIES describes, and prints a line for each. Fails when one has no plan. No device is needed.
 *
 * A list has one operation a line (# begins a comment):
 *   conv|grad_x|grad_w TYPE N H W C O KH KW STRIDE TOP LEFT BOTTOM RIGHT [bias] [residual]
 *   attention|attention_grad N HEADS ROWS KEYS WIDTH [interleaved] [lengths]
 * TYPE is f32 or bf16. Interleaved: q, k and v lie in one buffer. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/file.h"
#include "base/log.h"
#include "engine/cuda/cuda.h"

Status cuda_fail(cudaError_t error, const char *file, int line, const char *call)
{
    return status_fail(ERR_UNSUPPORTED, file, line, "%s: %s", call, cudaGetErrorString(error));
}

enum { WORDS = 20 };

static int32_t split(char *line, char *words[WORDS])
{
    int32_t count = 0;
    char *comment = strchr(line, '#');
    if (comment) *comment = '\0';
    for (char *at, *word = strtok_r(line, " \t", &at); word && count < WORDS; word = strtok_r(NULL, " \t", &at))
        words[count++] = word;
    return count;
}

static bool flag(char *const *words, int32_t count, const char *name)
{
    for (int32_t i = 0; i < count; i++) {
        if (strcmp(words[i], name) == 0) return true;
    }
    return false;
}

static bool read_numbers(char *const *words, int32_t count, int64_t *out)
{
    for (int32_t i = 0; i < count; i++) {
        char *end;
        out[i] = strtoll(words[i], &end, 10);
        if (*end != '\0') return false;
    }
    return true;
}

static Status plan_conv(Dnn *dnn, char *const *words, int32_t count, DnnPlan **out)
{
    Status status = STATUS_OK;
    int64_t n[12];
    if (count < 14 || !read_numbers(words + 2, 12, n)) FAIL(ERR_FORMAT, "a convolution has a type and 12 numbers");
    const char *kind = words[0];
    const ConvAttr a = {(int32_t)n[5], (int32_t)n[6],  (int32_t)n[7], (int32_t)n[8],
                        (int32_t)n[9], (int32_t)n[10], (int32_t)n[11]};
    const DnnConvSpec spec = {.kind = strcmp(kind, "conv") == 0     ? DNN_CONV
                                      : strcmp(kind, "grad_x") == 0 ? DNN_CONV_GRAD_X
                                                                    : DNN_CONV_GRAD_W,
                              .type = strcmp(words[1], "f32") == 0 ? DTYPE_F32 : DTYPE_BF16,
                              .n = n[0],
                              .h = n[1],
                              .w = n[2],
                              .c = n[3],
                              .oh = (n[1] + a.pad_top + a.pad_bottom - a.kh) / a.stride + 1,
                              .ow = (n[2] + a.pad_left + a.pad_right - a.kw) / a.stride + 1,
                              .o = n[4],
                              .attr = a,
                              .bias = flag(words, count, "bias"),
                              .residual = flag(words, count, "residual")};
    TRY(dnn_conv_create(dnn, &spec, out));
fail:
    return status;
}

static Status plan_attention(Dnn *dnn, char *const *words, int32_t count, DnnPlan **out)
{
    Status status = STATUS_OK;
    int64_t n[5];
    if (count < 6 || !read_numbers(words + 1, 5, n)) FAIL(ERR_FORMAT, "attention has 5 numbers");
    const int64_t t = n[2], s = n[3], d = n[4], row = n[1] * d,
                  q_row = flag(words, count, "interleaved") ? 3 * row : row;
    const DnnAttentionSpec spec = {.n = n[0],
                                   .heads = n[1],
                                   .t = t,
                                   .s = s,
                                   .d = d,
                                   .scale = 0.125f,
                                   .q_row = q_row,
                                   .q_head = q_row / n[1],
                                   .q_batch = t * q_row,
                                   .k_row = 2 * row,
                                   .k_head = 2 * d,
                                   .k_batch = s * 2 * row,
                                   .y_row = row,
                                   .y_head = d,
                                   .y_batch = t * row,
                                   .dq_row = q_row,
                                   .dq_head = q_row / n[1],
                                   .dq_batch = t * q_row,
                                   .lengths = flag(words, count, "lengths")};
    TRY(dnn_attention_create(dnn, &spec, strcmp(words[0], "attention_grad") == 0, out));
fail:
    return status;
}

/* Plans one line and prints what came of it; false where there is no plan. */
static bool plan_line(Dnn *dnn, char *line)
{
    char *words[WORDS], text[256];
    DnnPlan *plan = NULL;
    snprintf(text, sizeof text, "%s", line);
    const int32_t count = split(line, words);
    if (count == 0) return true;
    const double from = clock_seconds();
    const Status status = strncmp(words[0], "attention", 9) == 0 ? plan_attention(dnn, words, count, &plan)
                                                                 : plan_conv(dnn, words, count, &plan);
    const double seconds = clock_seconds() - from;
    if (status == STATUS_OK)
        printf("%-70s %-44s %9.3f MB %7.3f s\n", text, dnn_plan_name(plan), (double)dnn_plan_workspace(plan) / 1e6,
               seconds);
    else
        printf("%-70s NO PLAN %7.3f s: %s\n", text, seconds, status_message());
    fflush(stdout);
    dnn_plan_free(plan);
    return status == STATUS_OK;
}

int main(int argc, char **argv)
{
    Dnn *dnn = NULL;
    char *properties = NULL, *shapes = NULL, *at = NULL;
    size_t size;
    int missing = 0;
    if (argc < 3) return fprintf(stderr, "plan_shapes PROPERTIES SHAPES [CACHE [deterministic]]\n"), 2;
    if (file_read(argv[1], (size_t)1 << 20, &properties, &size) != STATUS_OK ||
        file_read(argv[2], (size_t)1 << 20, &shapes, &size) != STATUS_OK ||
        dnn_open(&(DnnOptions){.properties = properties,
                               .cache = argc > 3 ? argv[3] : NULL,
                               .deterministic = argc > 4 && strcmp(argv[4], "deterministic") == 0},
                 &dnn) != STATUS_OK) {
        fprintf(stderr, "%s\n", status_message());
        return 1;
    }
    const double from = clock_seconds();
    for (char *line = strtok_r(shapes, "\n", &at); line; line = strtok_r(NULL, "\n", &at))
        missing += !plan_line(dnn, line);
    printf("%.1f s, %d without a plan\n", clock_seconds() - from, missing);
    dnn_close(dnn);
    free(properties);
    free(shapes);
    return missing > 0;
}
