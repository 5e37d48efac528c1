/* Communicators between the devices of several ranks: DeviceCollectives (engine/backend.h) over NCCL. */
#ifndef ENGINE_CUDA_NCCL_H
#define ENGINE_CUDA_NCCL_H

#include "engine/cuda/cuda.h"

/* What this build has; NULL where it was built without NCCL. */
const DeviceCollectives *cuda_nccl_collectives(void);
/* Gives up the communicators that are still open. */
void cuda_nccl_close(Cuda *cuda);

#endif
