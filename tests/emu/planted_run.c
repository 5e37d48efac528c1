/* Does one thing on the emulated device, given by name, and prints what became of it; test_emulator.c starts it, since
 * most of these end the process. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "planted.h"

enum { ROWS = 40, COLS = 300 };

static void must(cudaError_t error, const char *what)
{
    if (error == cudaSuccess) return;
    printf("%s: %s\n", what, cudaGetErrorName(error));
    exit(1);
}
#define MUST(call) must((call), #call)

static float *device(size_t count)
{
    void *memory = NULL;
    MUST(cudaMalloc(&memory, count * sizeof(float)));
    return memory;
}

static float *pinned(size_t count)
{
    void *memory = NULL;
    MUST(cudaHostAlloc(&memory, count * sizeof(float), cudaHostAllocDefault));
    return memory;
}

static cudaStream_t stream_new(void)
{
    cudaStream_t stream;
    MUST(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking));
    return stream;
}

static cudaEvent_t event_new(void)
{
    cudaEvent_t event;
    MUST(cudaEventCreateWithFlags(&event, cudaEventDisableTiming));
    return event;
}

static float first_of(const float *memory)
{
    float value;
    MUST(cudaMemcpy(&value, memory, sizeof value, cudaMemcpyDeviceToHost));
    return value;
}

static void row_sums(Planted mistake)
{
    static float x[ROWS * COLS], y[ROWS];
    float *dx = device(ROWS * COLS), *dy = device(ROWS);
    int wrong = 0;
    for (int i = 0; i < ROWS * COLS; i++) x[i] = (float)(i % 11 - 4);
    MUST(cudaMemcpy(dx, x, sizeof x, cudaMemcpyHostToDevice));
    MUST(planted_row_sums(mistake, dx, dy, ROWS, COLS, NULL));
    MUST(cudaMemcpy(y, dy, sizeof y, cudaMemcpyDeviceToHost));
    for (int i = 0; i < ROWS; i++) {
        float sum = 0;
        for (int k = 0; k < COLS; k++) sum += x[i * COLS + k];
        wrong += !(y[i] == sum);
    }
    MUST(cudaFree(dx));
    MUST(cudaFree(dy));
    printf("%s\n", wrong ? "wrong" : "right");
}

static void bad_launch(void)
{
    float *y = device(10);
    printf("%s\n", cudaGetErrorName(planted_fill(y, 10, 0, 2000, NULL)));
    printf("%s\n", cudaGetErrorName(cudaGetLastError()));
    printf("%s\n", cudaGetErrorName(cudaGetLastError()));
    printf("%s\n", cudaGetErrorName(planted_row_sums(PLANTED_NOTHING, y, y, 1, 20000, NULL)));
}

static void host_pointer(void)
{
    float y[10];
    MUST(planted_fill(y, 10, 1, 32, NULL));
}

static void host_touch(void)
{
    volatile float *y = device(10);
    MUST(planted_fill((float *)y, 10, 1, 32, NULL));
    MUST(cudaDeviceSynchronize());
    printf("%g\n", (double)y[0]);
}

static void memory(void)
{
    size_t available = 0, total = 0;
    void *none = NULL;
    MUST(cudaMemGetInfo(&available, &total));
    printf("%zu %zu\n", available, total);
    float *some = device(1000);
    printf("%s\n", isnan(first_of(some)) ? "fresh" : "not fresh");
    MUST(cudaMemGetInfo(&available, &total));
    printf("%zu %zu\n", available, total);
    printf("%s %d\n", cudaGetErrorName(cudaMalloc(&none, total)), none == NULL);
    MUST(cudaFree(some));
    MUST(cudaMemGetInfo(&available, &total));
    printf("%zu %zu\n", available, total);
}

static void wrong_kind(void)
{
    float x[4] = {0}, *y = device(4);
    printf("%s\n", cudaGetErrorName(cudaMemcpy(x, y, sizeof x, cudaMemcpyHostToDevice)));
    printf("%s\n", cudaGetErrorName(cudaMemcpy(y, x, sizeof x + 1, cudaMemcpyHostToDevice)));
}

/* A recording keeps the arguments of its launches, and reads memory anew. */
static void recording(void)
{
    cudaStream_t stream = stream_new();
    cudaGraph_t graph;
    cudaGraphExec_t exec;
    float *x = device(100), *value = device(1), *y = device(100), *host = pinned(1);
    volatile float argument = 1; /* what changes later is not seen */
    *host = 10;
    MUST(cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal));
    MUST(planted_fill(x, 100, argument, 32, stream));
    MUST(cudaMemcpyAsync(value, host, sizeof *host, cudaMemcpyHostToDevice, stream));
    MUST(planted_add(x, value, y, 100, stream));
    MUST(cudaStreamEndCapture(stream, &graph));
    MUST(cudaGraphInstantiate(&exec, graph, 0));
    MUST(cudaGraphDestroy(graph));
    printf("%s", isnan(first_of(y)) ? "nothing" : "something");
    argument = 2;
    *host = 20;
    for (int i = 0; i < 2; i++) {
        MUST(cudaGraphLaunch(exec, stream));
        MUST(cudaStreamSynchronize(stream));
        printf(" %g", (double)first_of(y));
        *host = 30;
    }
    printf("\n");
}

static void capture_mistakes(void)
{
    cudaStream_t stream = stream_new(), other = stream_new();
    cudaEvent_t fork = event_new(), join = event_new(), never = event_new();
    cudaGraph_t graph;
    float *y = device(10);
    MUST(cudaStreamWaitEvent(stream, never, 0)); /* no error */
    MUST(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
    printf("%s ", cudaGetErrorName(cudaStreamSynchronize(stream)));
    printf("%s\n", cudaGetErrorName(cudaStreamEndCapture(stream, &graph)));
    (void)cudaGetLastError(); /* what a launch returns is the last error */
    for (int joins = 0; joins < 2; joins++) {
        MUST(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
        MUST(cudaEventRecord(fork, stream));
        MUST(cudaStreamWaitEvent(other, fork, 0));
        MUST(planted_fill(y, 10, 1, 32, other));
        MUST(cudaEventRecord(join, other));
        if (joins) MUST(cudaStreamWaitEvent(stream, join, 0));
        printf("%s\n", cudaGetErrorName(cudaStreamEndCapture(stream, &graph)));
        (void)cudaGetLastError();
    }
}

/* One stream sends, another computes; `wait`: the second waits for the first. */
static void send(int wait)
{
    cudaStream_t sender = stream_new(), worker = stream_new();
    cudaEvent_t sent = event_new();
    float *x = device(100), *value = device(1), *y = device(100), *host = pinned(1);
    *host = 5;
    MUST(planted_fill(x, 100, 1, 32, worker));
    MUST(cudaMemcpyAsync(value, host, sizeof *host, cudaMemcpyHostToDevice, sender));
    MUST(cudaEventRecord(sent, sender));
    if (wait) MUST(cudaStreamWaitEvent(worker, sent, 0));
    MUST(planted_add(x, value, y, 100, worker));
    MUST(cudaStreamSynchronize(worker));
    printf("%s\n", first_of(y) == 6 ? "right" : "wrong");
    MUST(cudaDeviceSynchronize());
}

/* Two sends to one place; `wait`: the second waits until the first has been used. */
static void send_again(int wait)
{
    cudaStream_t sender = stream_new(), worker = stream_new();
    cudaEvent_t sent = event_new(), used = event_new();
    float *x = device(100), *value = device(1), *y[2] = {device(100), device(100)}, *host = pinned(2);
    MUST(planted_fill(x, 100, 1, 32, worker));
    for (int i = 0; i < 2; i++) {
        host[i] = (float)(5 + i);
        if (wait) MUST(cudaStreamWaitEvent(sender, used, 0));
        MUST(cudaMemcpyAsync(value, &host[i], sizeof *host, cudaMemcpyHostToDevice, sender));
        MUST(cudaEventRecord(sent, sender));
        MUST(cudaStreamWaitEvent(worker, sent, 0));
        MUST(planted_add(x, value, y[i], 100, worker));
        MUST(cudaEventRecord(used, worker));
    }
    MUST(cudaStreamSynchronize(worker));
    printf("%s\n", first_of(y[0]) == 6 && first_of(y[1]) == 7 ? "right" : "wrong");
}

int main(int argc, char **argv)
{
    const char *const mistakes[] = {"nothing",        "missing_barrier", "global_overrun",
                                    "static_overrun", "dynamic_overrun", "stale_shared",
                                    "divergent",      "lonely",          "ended_lane"};
    const char *what = argc == 2 ? argv[1] : "";
    for (int i = 0; i < (int)(sizeof mistakes / sizeof *mistakes); i++) {
        if (strcmp(what, mistakes[i]) == 0) row_sums((Planted)i);
    }
    if (strcmp(what, "bad_launch") == 0) bad_launch();
    if (strcmp(what, "host_pointer") == 0) host_pointer();
    if (strcmp(what, "host_touch") == 0) host_touch();
    if (strcmp(what, "memory") == 0) memory();
    if (strcmp(what, "wrong_kind") == 0) wrong_kind();
    if (strcmp(what, "recording") == 0) recording();
    if (strcmp(what, "capture_mistakes") == 0) capture_mistakes();
    if (strcmp(what, "send") == 0 || strcmp(what, "send_early") == 0) send(what[4] == '\0');
    if (strcmp(what, "send_again") == 0 || strcmp(what, "send_again_early") == 0) send_again(what[10] == '\0');
    return 0;
}
