#include "model/probe_autoencoder.h"

#include "model/frozen_weights.h"
#include "model/probe_graph.h"
#include "model/sampling_graph.h"

typedef struct Probe {
    Safetensors *in;
    ParamTable *params;
    ParamStore store;
    FrozenWeights *frozen;
    PictureGraph picture;
} Probe;

static void probe_free(Probe *probe)
{
    picture_graph_free(&probe->picture);
    param_store_free(&probe->store);
    frozen_weights_free(probe->frozen);
    param_table_free(probe->params);
    safetensors_close(probe->in);
}

static Status load_weights(Probe *probe, const ModelConfig *model, uint64_t seed)
{
    Status status = STATUS_OK;
    TRY(param_table_layout(probe->params, NULL, 0));
    TRY(param_store_create(probe->params, false, &probe->store));
    TRY(frozen_weights_load(model, &probe->store, &probe->frozen));
    param_store_init(&probe->store, seed);
fail:
    return status;
}

Status probe_vae_encode(const ModelConfig *model, Backend *backend, Dtype compute, const char *in, const char *out,
                        uint64_t seed)
{
    Status status = STATUS_OK;
    static const char NEEDED[] = "vae-encode reads `pixels`, and `noise` where it is there";
    Probe probe = {0};
    int64_t pixels[4] = {0, 3, 0, 0};
    TRY(model_config_check(model, NULL));
    TRY(safetensors_open(in, &probe.in));
    TRY(probe_find(probe.in, in, NEEDED, "pixels", 4, pixels));
    bool noise = model->autoencoder.kind == AUTOENCODER_KL && safetensors_find(probe.in, "noise") != NULL;
    TRY(param_table_create(&probe.params));
    TRY(encode_graph_create(probe.params, model, pixels[0], pixels[2], pixels[3], noise, compute, &probe.picture));
    if (noise) {
        int64_t dims[4] = {pixels[0], model_latent_channels(model), model_latent_size(model, pixels[2]),
                           model_latent_size(model, pixels[3])};
        TRY(probe_find(probe.in, in, NEEDED, "noise", 4, dims));
    }
    TRY(load_weights(&probe, model, seed));
    const PictureGraph *p = &probe.picture;
    const ProbeTensor inputs[] = {{"pixels", p->pixels}, {"noise", p->noise}};
    const ProbeTensor outputs[] = {{"moments", p->moments}, {"latent", p->latent}};
    TRY(probe_graph_run(p->graph, &probe.store, backend, probe.in, inputs, noise ? 2 : 1, out, outputs, 2));
fail:
    probe_free(&probe);
    return status;
}

Status probe_vae_decode(const ModelConfig *model, Backend *backend, Dtype compute, const char *in, const char *out,
                        uint64_t seed)
{
    Status status = STATUS_OK;
    Probe probe = {0};
    TRY(model_config_check(model, NULL));
    TRY(safetensors_open(in, &probe.in));
    int64_t latent[4] = {0, model_latent_channels(model), 0, 0}, factor = model_latent_factor(model);
    TRY(probe_find(probe.in, in, "vae-decode reads `latent`", "latent", 4, latent));
    TRY(param_table_create(&probe.params));
    TRY(decode_graph_create(probe.params, model, latent[0], latent[2] * factor, latent[3] * factor, compute,
                            &probe.picture));
    TRY(load_weights(&probe, model, seed));
    const PictureGraph *p = &probe.picture;
    const ProbeTensor inputs[] = {{"latent", p->latent}}, outputs[] = {{"pixels", p->pixels}};
    TRY(probe_graph_run(p->graph, &probe.store, backend, probe.in, inputs, 1, out, outputs, 1));
fail:
    probe_free(&probe);
    return status;
}
