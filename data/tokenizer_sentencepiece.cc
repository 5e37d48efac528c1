#include "data/tokenizer_sentencepiece.h"

#include <sentencepiece_processor.h>

#include <cstdio>
#include <exception>
#include <string>
#include <vector>

struct SpmModel {
    sentencepiece::SentencePieceProcessor processor;
};

SpmModel *spm_open(const char *path, char *message, size_t message_size)
{
    SpmModel *model = nullptr;
    try {
        model = new SpmModel;
        const auto status = model->processor.Load(std::string(path));
        if (status.ok()) return model;
        std::snprintf(message, message_size, "%s", status.ToString().c_str());
    } catch (const std::exception &e) {
        std::snprintf(message, message_size, "%s", e.what());
    } catch (...) {
        std::snprintf(message, message_size, "unknown failure");
    }
    delete model;
    return nullptr;
}

void spm_free(SpmModel *model)
{
    delete model;
}

int spm_size(const SpmModel *model)
{
    return model->processor.GetPieceSize();
}

void spm_special_ids(const SpmModel *model, int *bos, int *pad, int *eos, int *unk)
{
    *bos = model->processor.bos_id();
    *pad = model->processor.pad_id();
    *eos = model->processor.eos_id();
    *unk = model->processor.unk_id();
}

int spm_encode(const SpmModel *model, const char *text, size_t size, bool bytes, int32_t *ids, int max)
{
    try {
        std::vector<int> pieces;
        if (!model->processor.Encode(std::string(text, size), &pieces).ok()) return -1;
        int count = 0;
        bool unknown = false;
        for (const int piece : pieces) {
            const bool byte = !bytes && model->processor.IsByte(piece);
            if (byte && unknown) continue;
            if (count == max) break;
            ids[count++] = byte ? model->processor.unk_id() : piece;
            unknown = byte;
        }
        return count;
    } catch (...) {
        return -1;
    }
}
