/* A parameter store's buffers once more, in the memory of a device: what its kernels read and write. The host's buffers
 * stay where values are drawn, loaded and saved from. */
#ifndef ENGINE_PARAM_IMAGE_H
#define ENGINE_PARAM_IMAGE_H

#include "engine/backend.h"
#include "engine/params.h"

/* Makes store->image on the backend and copies all weights there (param_image_upload). Does nothing on backends that
 * compute in host memory. `halves`: keep bf16 copies beside the fp32 weights (KernelCall.half), for a plan with
 * PLAN_PACK_IMAGE. Gradients are there if the store has them. param_store_free frees it; close the backend after that.
 */
Status param_image_open(ParamStore *store, Backend *backend, bool halves);
/* The host's weights, frozen ones included, to the device, and the bf16 copies made anew. Without an image: nothing. */
Status param_image_upload(const ParamStore *store);
/* The device's weights or gradients to the host's buffers. Without an image: nothing. */
Status param_image_download_weights(const ParamStore *store);
Status param_image_download_grads(const ParamStore *store);
void param_image_free(ParamImage *image); /* NULL is fine */

/* Device bytes of an image of this table. */
int64_t param_image_bytes(const ParamTable *table, bool grads, bool halves);

#endif
