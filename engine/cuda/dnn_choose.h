/* The choice of an engine for a graph. */
#ifndef ENGINE_CUDA_DNN_CHOOSE_H
#define ENGINE_CUDA_DNN_CHOOSE_H

#include "engine/cuda/dnn_inside.h"

/* An engine and how it was found; enough to find it again. */
typedef struct DnnChoice {
    int32_t mode;     /* of the heuristics */
    int32_t position; /* in their list; negative: the kernel of DnnGraph.kernels */
    int64_t engine;
    bool compiled; /* while planning */
    bool measured; /* the fastest of several, or the only one, where times can be taken */
} DnnChoice;

/* DnnStep.engine: how it was found, cuDNN's number[/kernel], and + where it was compiled. */
void dnn_engine_name(const DnnChoice *choice, const char *how, char out[64]);
/* With a device the fastest of a few candidates, measured; without one, or where runs must repeat bit by bit, the first
 * of cuDNN's list that can be planned. */
Status dnn_choose(const Dnn *dnn, DnnGraph *graph, bool precise, DnnChoice *choice, DnnStep *out);
/* The same again; ERR_UNSUPPORTED where cuDNN's list is another by now. */
Status dnn_choose_again(const Dnn *dnn, DnnGraph *graph, const DnnChoice *choice, DnnStep *out);

#endif
