/* The queue of collectives: a stream beside what computes, and the events that order the two. Communicators put their
 * work on it (nccl.c). This file knows no communicator. */
#ifndef ENGINE_CUDA_COLLECTIVES_H
#define ENGINE_CUDA_COLLECTIVES_H

#include "engine/cuda/cuda.h"

typedef struct CudaMark {
    cudaEvent_t reached;        /* the collectives queued so far, when it was set */
    cudaEvent_t waits, goes_on; /* what computes came to the join; went on after it */
    bool joined, recorded;      /* since the last look; in a recording, which replays it unseen */
} CudaMark;

typedef struct CudaCollectives {
    cudaStream_t stream;
    cudaEvent_t fork;
    CudaMark *marks;
    int32_t mark_count;
    DeviceComm *comms; /* that are open: nccl.c */
    bool batch;        /* between begin_batch and end_batch */
} CudaCollectives;

/* Makes cuda->collectives, if it is not there yet. */
Status cuda_collectives_open(Cuda *cuda);
void cuda_collectives_close(Cuda *cuda); /* communicators have been closed */

/* DeviceCollectives. */
Status cuda_collectives_identity(Backend *backend, char out[DEVICE_IDENTITY_BYTES]);
Status cuda_collectives_narrow(Backend *backend, uint16_t *to, const float *from, int64_t count);
Status cuda_collectives_widen(Backend *backend, float *to, const uint16_t *from, int64_t count);
Status cuda_collectives_fork(Backend *backend);
Status cuda_collectives_marks_reserve(Backend *backend, int32_t marks);
Status cuda_collectives_mark(Backend *backend, int32_t k);
Status cuda_collectives_join(Backend *backend, int32_t k);
Status cuda_collectives_exposed_seconds(Backend *backend, double *seconds);

#endif
