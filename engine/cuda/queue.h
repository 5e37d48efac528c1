/* The queue of the CUDA backend: its two streams, copies, recordings (CUDA graphs) and marks (events). */
#ifndef ENGINE_CUDA_QUEUE_H
#define ENGINE_CUDA_QUEUE_H

#include "engine/cuda/cuda.h"

/* Makes the streams and events; cuda->stream and cuda->sender are set. */
Status cuda_queue_open(Cuda *cuda);
void cuda_queue_close(Cuda *cuda); /* NULL fields are fine */

/* Waits until the stream has done what was queued. Where there are communicators it asks them all the while, so that a
 * collective that will never end is an error. */
Status cuda_wait(Cuda *cuda, cudaStream_t stream);

/* Backend.alloc, free, upload, download. */
void *cuda_alloc(Backend *backend, size_t bytes);
void cuda_free(Backend *backend, void *memory);
Status cuda_upload(Backend *backend, void *to, const void *from, size_t bytes);
Status cuda_download(Backend *backend, void *to, const void *from, size_t bytes);

extern const DeviceOps cuda_device_ops;

/* peak.c */
Status cuda_matmul_peak(Backend *backend, Dtype dtype, double *flops_per_second);
Status cuda_copy_peak(Backend *backend, double *bytes_per_second);

#endif
