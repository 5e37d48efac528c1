#include "model/weight_names.h"

#include <stdlib.h>
#include <string.h>

#define LISTED_MAX 8 /* names of each sort in an error */
#define WORDS_MAX 12

const char *const WEIGHT_KIND_WORDS[] = {"unet", "vae", "xlmr-clip", "mt5", NULL};

typedef struct Naming {
    const char *prefix;             /* in our table */
    const char *inside[WORDS_MAX];  /* what names may begin with in a file, beside nothing and the common ones */
    const char *ignored[WORDS_MAX]; /* beginnings of names that the network does not use */
    const char *alias[2];           /* a name, and the other name that it may have in a file */
} Naming;

/* Wrappers: Lightning and others keep the weights under a word; DataParallel, torch.compile and trainers put one before
 * each name. */
static const char *const COMMON_INSIDE[] = {
    "",
    "state_dict.",
    "model.",
    "module.",
    "model_state_dict.",
    "state_dict.model.",
    "state_dict.module.",
    "model.module.",
    "_orig_mod.",
    "state_dict._orig_mod.",
    "model._orig_mod.",
    "module._orig_mod.",
    "model_state_dict._orig_mod.",
};
enum { COMMON_COUNT = sizeof COMMON_INSIDE / sizeof COMMON_INSIDE[0] };

static const Naming NAMINGS[WEIGHT_KIND_COUNT] = {
    [WEIGHTS_UNET] = {.prefix = "", .inside = {"ema."}},
    /* The discriminator of its training; an average of the weights. In latent-diffusion files it is one part of many.
     */
    [WEIGHTS_VAE] = {.prefix = "autoencoder.",
                     .inside = {"state_dict.first_stage_model.", "first_stage_model."},
                     .ignored = {"loss.", "model_ema."}},
    /* A buffer, and heads of XLM-RoBERTa that M-CLIP does not use. */
    [WEIGHTS_XLMR_CLIP] = {.prefix = "text_encoder1.",
                           .ignored = {"transformer.embeddings.position_ids", "transformer.pooler.", "lm_head."}},
    /* The whole of mT5 has a decoder; its encoder's token table is the shared one. */
    [WEIGHTS_MT5] = {.prefix = "text_encoder2.",
                     .inside = {"transformer."},
                     .ignored = {"decoder.", "lm_head.", "encoder.embed_tokens."},
                     .alias = {"shared.weight", "encoder.embed_tokens.weight"}},
};

static bool begins_with(const char *text, const char *begin)
{
    return strncmp(text, begin, strlen(begin)) == 0;
}

const char *weight_kind_prefix(WeightKind kind)
{
    return NAMINGS[kind].prefix;
}

bool weight_kind_has(WeightKind kind, const Param *param)
{
    if (kind == WEIGHTS_UNET) return param->trainable;
    return !param->trainable && begins_with(param->name, NAMINGS[kind].prefix);
}

const char *weight_published_name(WeightKind kind, const Param *param)
{
    return param->name + strlen(NAMINGS[kind].prefix);
}

/* ---- finding ---- */

/* The tensor of a published name below `inside`, by its other name too; NULL when absent. */
static const WeightTensor *find_below(const WeightFile *file, WeightKind kind, const char *inside, const char *name)
{
    char full[2048];
    const char *const *alias = NAMINGS[kind].alias;
    size_t length = strlen(inside), name_length = strlen(name);
    if (length + name_length >= sizeof full) return NULL;
    memcpy(full, inside, length);
    memcpy(full + length, name, name_length + 1);
    const WeightTensor *found = weight_file_find(file, full);
    if (found || !alias[0] || strcmp(alias[0], name) != 0 || length + strlen(alias[1]) >= sizeof full) return found;
    memcpy(full + length, alias[1], strlen(alias[1]) + 1);
    return weight_file_find(file, full);
}

static int32_t count_found(const WeightFile *file, const ParamTable *table, WeightKind kind, const char *inside)
{
    int32_t found = 0;
    for (int32_t p = 0; p < param_table_size(table); p++) {
        const Param *param = param_table_get(table, p);
        if (weight_kind_has(kind, param) && find_below(file, kind, inside, weight_published_name(kind, param))) found++;
    }
    return found;
}

/* What most of the wanted names begin with; nothing when none is found. */
static const char *find_inside(const WeightFile *file, const ParamTable *table, WeightKind kind)
{
    const char *best = "";
    int32_t most = 0;
    for (int i = 0; i < COMMON_COUNT + WORDS_MAX + 1; i++) {
        const char *inside = i < COMMON_COUNT               ? COMMON_INSIDE[i]
                             : i < COMMON_COUNT + WORDS_MAX ? NAMINGS[kind].inside[i - COMMON_COUNT]
                                                            : NAMINGS[kind].prefix; /* a file of our own names */
        if (!inside) continue;
        int32_t found = count_found(file, table, kind, inside);
        if (found > most) {
            most = found;
            best = inside;
        }
    }
    return best;
}

static bool is_ignored(WeightKind kind, const char *name)
{
    for (int i = 0; i < WORDS_MAX && NAMINGS[kind].ignored[i]; i++)
        if (begins_with(name, NAMINGS[kind].ignored[i])) return true;
    return false;
}

/* ---- comparing ---- */

static bool shape_fits(const WeightTensor *tensor, const Shape *shape)
{
    if (tensor->ndim != shape->ndim) return false;
    for (int32_t d = 0; d < shape->ndim; d++)
        if (tensor->shape[d] != shape->dim[d]) return false;
    return true;
}

static bool is_real(SafeDtype dtype)
{
    return dtype == SAFE_F16 || dtype == SAFE_BF16 || dtype == SAFE_F32 || dtype == SAFE_F64;
}

static Status print_shape(StrBuf *out, const int64_t *dims, int32_t ndim)
{
    Status status = STATUS_OK;
    TRY(strbuf_printf(out, "("));
    for (int32_t d = 0; d < ndim; d++) TRY(strbuf_printf(out, "%s%lld", d > 0 ? "," : "", (long long)dims[d]));
    TRY(strbuf_printf(out, ")"));
fail:
    return status;
}

static Status note_shape(WeightMatch *match, const WeightTensor *tensor, const char *name, const Shape *want)
{
    Status status = STATUS_OK;
    match->shaped_count++;
    TRY(strbuf_printf(&match->shaped, "%s ", name));
    TRY(print_shape(&match->shaped, tensor->shape, tensor->ndim));
    if (!is_real(tensor->dtype)) TRY(strbuf_printf(&match->shaped, " %s", safe_dtype_name(tensor->dtype)));
    TRY(strbuf_printf(&match->shaped, ", wanted "));
    TRY(print_shape(&match->shaped, want->dim, want->ndim));
    if (!is_real(tensor->dtype)) TRY(strbuf_printf(&match->shaped, " F32, F16, BF16 or F64"));
    TRY(strbuf_append(&match->shaped, "\n", 1));
fail:
    return status;
}

static Status match_param(const WeightFile *file, WeightKind kind, const Param *param, WeightMatch *match,
                          int32_t index)
{
    Status status = STATUS_OK;
    const WeightTensor *tensor = find_below(file, kind, match->inside, weight_published_name(kind, param));
    Shape want = param_file_shape(param);
    if (!tensor) {
        match->missing_count++;
        TRY(strbuf_printf(&match->missing, "%s ", weight_published_name(kind, param)));
        TRY(print_shape(&match->missing, want.dim, want.ndim));
        TRY(strbuf_append(&match->missing, "\n", 1));
    } else if (!shape_fits(tensor, &want) || !is_real(tensor->dtype)) {
        TRY(note_shape(match, tensor, weight_published_name(kind, param), &want));
    } else {
        match->tensors[index] = tensor;
        match->found++;
    }
fail:
    return status;
}

/* What the file has and the network does not. */
static Status find_extra(const WeightFile *file, const ParamTable *table, WeightKind kind, WeightMatch *match)
{
    Status status = STATUS_OK;
    char name[2048];
    const size_t inside = strlen(match->inside), prefix = strlen(NAMINGS[kind].prefix);
    for (int32_t i = 0; i < weight_file_count(file); i++) {
        const WeightTensor *tensor = weight_file_get(file, i);
        const char *rest = tensor->name + inside;
        if (!begins_with(tensor->name, match->inside) || is_ignored(kind, rest)) {
            match->ignored_count++;
            continue;
        }
        int32_t index = -1;
        if (prefix + strlen(rest) < sizeof name) {
            memcpy(name, NAMINGS[kind].prefix, prefix);
            memcpy(name + prefix, rest, strlen(rest) + 1);
            index = param_table_find(table, name);
        }
        if (index >= 0 && weight_kind_has(kind, param_table_get(table, index))) continue;
        match->extra_count++;
        TRY(strbuf_printf(&match->extra, "%s ", tensor->name));
        TRY(print_shape(&match->extra, tensor->shape, tensor->ndim));
        TRY(strbuf_append(&match->extra, "\n", 1));
    }
fail:
    return status;
}

Status weight_match(const WeightFile *file, const ParamTable *table, WeightKind kind, WeightMatch *out)
{
    Status status = STATUS_OK;
    *out = (WeightMatch){0};
    const char *inside = find_inside(file, table, kind);
    memcpy(out->inside, inside, strlen(inside) + 1);
    out->tensors = mem_alloc_array((size_t)param_table_size(table) + 1, sizeof *out->tensors);
    if (!out->tensors) FAIL(ERR_MEMORY, "%s: out of memory", weight_file_path(file));
    for (int32_t p = 0; p < param_table_size(table); p++) {
        const Param *param = param_table_get(table, p);
        if (weight_kind_has(kind, param)) TRY(match_param(file, kind, param, out, p));
    }
    TRY(find_extra(file, table, kind, out));
    return STATUS_OK;
fail:
    weight_match_free(out);
    return status;
}

/* Removes the line that begins with "NAME ". */
static void drop_line(StrBuf *lines, const char *name)
{
    const size_t length = strlen(name);
    for (char *at = lines->data; at && *at;) {
        char *end = strchr(at, '\n');
        if (!end) return;
        if (strncmp(at, name, length) == 0 && at[length] == ' ') {
            const size_t rest = lines->size - (size_t)(end + 1 - lines->data);
            memmove(at, end + 1, rest + 1);
            lines->size -= (size_t)(end + 1 - at);
            return;
        }
        at = end + 1;
    }
}

int32_t weight_match_widen(const WeightFile *file, const ParamTable *table, WeightMatch *match)
{
    static const char name[] = "input_blocks.0.0.weight";
    const int32_t index = param_table_find(table, name);
    if (index < 0 || match->tensors[index]) return -1;
    const WeightTensor *tensor = find_below(file, WEIGHTS_UNET, match->inside, name);
    Shape narrow = param_file_shape(param_table_get(table, index)); /* (O,2C+1,KH,KW) */
    if (narrow.ndim != 4 || narrow.dim[1] < 3 || narrow.dim[1] % 2 == 0) return -1;
    narrow.dim[1] /= 2;
    if (!tensor || !is_real(tensor->dtype) || !shape_fits(tensor, &narrow)) return -1;
    match->tensors[index] = tensor;
    match->found++;
    match->shaped_count--;
    drop_line(&match->shaped, name);
    return index;
}

void weight_match_free(WeightMatch *match)
{
    free(match->tensors);
    strbuf_free(&match->missing);
    strbuf_free(&match->shaped);
    strbuf_free(&match->extra);
    *match = (WeightMatch){0};
}

/* ---- the error ---- */

/* "2 missing [a (3), b (4)]": the first few lines of a list. */
static Status summarize(StrBuf *out, int32_t count, const char *word, const StrBuf *lines)
{
    Status status = STATUS_OK;
    if (count == 0) return STATUS_OK;
    TRY(strbuf_printf(out, "%s%d %s [", out->size > 0 ? ", " : "", count, word));
    const char *at = lines->data ? lines->data : "";
    for (int i = 0; i < LISTED_MAX && *at; i++) {
        size_t length = strcspn(at, "\n");
        TRY(strbuf_printf(out, "%s%.*s", i > 0 ? "; " : "", (int)(length < 160 ? length : 160), at));
        at += length + (at[length] == '\n');
    }
    TRY(strbuf_printf(out, "%s]", count > LISTED_MAX ? "; ..." : ""));
fail:
    return status;
}

Status weight_match_check(const WeightMatch *match, const char *path, WeightKind kind, bool allow_extra,
                          const char *remedy)
{
    Status status = STATUS_OK;
    StrBuf words = {0};
    TRY(summarize(&words, match->missing_count, "missing", &match->missing));
    TRY(summarize(&words, match->shaped_count, "of another shape or type", &match->shaped));
    if (!allow_extra) TRY(summarize(&words, match->extra_count, "unknown", &match->extra));
    if (words.size > 0)
        FAIL(ERR_MISMATCH, "%s does not fit the %s of this config: %s; %s", path, WEIGHT_KIND_WORDS[kind], words.data,
             remedy);
fail:
    strbuf_free(&words);
    return status;
}
