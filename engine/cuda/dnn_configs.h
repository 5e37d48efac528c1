/* Engine configurations: what cuDNN can make a plan of. */
#ifndef ENGINE_CUDA_DNN_CONFIGS_H
#define ENGINE_CUDA_DNN_CONFIGS_H

#include "engine/cuda/dnn_inside.h"

typedef struct DnnConfig {
    DnnDesc desc;                 /* of the graph; freed with it */
    int64_t engine;               /* cuDNN's number; negative where cuDNN does not say what it is */
    uint32_t numerical, behavior; /* bit k: note k */
    Hash128 hash;                 /* of the engine and its knobs: equal ones make the same plan */
} DnnConfig;

/* The kinds of heuristics, in the order in which they are asked; the last is the last resort. */
enum { DNN_MODES = 3, DNN_CONFIGS_MAX = 32 };
extern const char *const dnn_mode_names[DNN_MODES];

Status dnn_operation_graph(DnnGraph *g, DnnDesc *out);
/* In cuDNN's order of preference; none where this kind of heuristics does not know the graph. */
int32_t dnn_configs(const Dnn *dnn, DnnGraph *g, DnnDesc graph, int32_t mode, DnnConfig out[DNN_CONFIGS_MAX]);
/* `like`, whose engine has other kernels, with the one of this number; false where it has none such. */
bool dnn_config_with_kernel(const Dnn *dnn, DnnGraph *g, DnnDesc graph, const DnnConfig *like, int64_t kernel,
                            DnnConfig *out);

#endif
