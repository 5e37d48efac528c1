/* Config from hostile text: a first line that begins with "=" is an override. What loads must dump and load again. */
#include <stdlib.h>
#include <string.h>

#include "config_sample.h"

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size);

int LLVMFuzzerTestOneInput(const unsigned char *data, size_t size)
{
    char *text = malloc(size + 1);
    const char *override = NULL, *body = text;
    memcpy(text, data, size);
    text[size] = '\0';
    char *line_end = text[0] == '=' ? strchr(text, '\n') : NULL;
    if (line_end) {
        *line_end = '\0';
        override = text + 1;
        body = line_end + 1;
    }
    Sample sample, again, part;
    Config *config, *dumped, *variant;
    StrBuf dump = {0};
    if (config_load("fuzz.yaml", body, &SAMPLE_SCHEMA, &override, override ? 1 : 0, &sample, &config) == STATUS_OK) {
        (void)config_error(config, "data.sources[0].weight", "x");
        if (config_dump(&SAMPLE_SCHEMA, &sample, &dump) != STATUS_OK) abort();
        if (config_load("dump.yaml", dump.data, &SAMPLE_SCHEMA, NULL, 0, &again, &dumped) != STATUS_OK) abort();
        if (strcmp(sample.run.dir, again.run.dir) != 0 || sample.train.steps != again.train.steps ||
            sample.train.precision != again.train.precision ||
            memcmp(&sample.optim.lr, &again.optim.lr, sizeof(double)) != 0 ||
            sample.data.sources.count != again.data.sources.count)
            abort();
        if (sample.parts.count != again.parts.count) abort();
        /* each part was bound where it stands, and the sections it is laid over were, too: together they bind */
        for (size_t i = 0; i < sample.parts.count; i++) {
            if (config_variant(config, "parts", i, "", &part, &variant) != STATUS_OK) abort();
            if (part.parts.count != 0) abort();
            config_free(variant);
        }
        config_free(dumped);
        strbuf_free(&dump);
        config_free(config);
    }
    free(text);
    return 0;
}
