/* Times of plans, on memory taken for the purpose. */
#ifndef ENGINE_CUDA_DNN_MEASURE_H
#define ENGINE_CUDA_DNN_MEASURE_H

#include "engine/cuda/dnn_inside.h"

enum { DNN_MEASURED_MAX = 8 };
/* Seconds of one run of each step; a step that cannot run, or all where there is no memory, gets INFINITY. */
Status dnn_measure(const Dnn *dnn, const DnnStep *steps, int32_t count, double *seconds);

#endif
