/* event_dump FILE...: what is in TensorBoard's event files, a line each:
 *
 *   STEP start            STEP TAG VALUE            STEP TAG image WIDTHxHEIGHT BYTES            STEP TAG text BYTES
 *
 * Ends with 1, and says why, where a file is not whole. */
#include <stdio.h>

#include "event_reader.h"

static void print_value(long long step, const Vasily__Tensorboard__Summary__Value *value)
{
    switch (value->value_case) {
    case VASILY__TENSORBOARD__SUMMARY__VALUE__VALUE_SIMPLE_VALUE:
        printf("%lld %s %.9g\n", step, value->tag, value->simple_value);
        break;
    case VASILY__TENSORBOARD__SUMMARY__VALUE__VALUE_IMAGE:
        printf("%lld %s image %dx%d %zu\n", step, value->tag, value->image->width, value->image->height,
               value->image->encoded_image_string.len);
        break;
    case VASILY__TENSORBOARD__SUMMARY__VALUE__VALUE_TENSOR:
        printf("%lld %s text %zu\n", step, value->tag,
               value->tensor->n_string_val ? value->tensor->string_val[0].len : 0);
        break;
    default:
        printf("%lld %s nothing\n", step, value->tag);
    }
}

int main(int argc, char **argv)
{
    static EventRecords records;
    for (int i = 1; i < argc; i++) {
        const bool whole = event_records_read(argv[i], &records);
        for (size_t e = 0; e < records.count; e++) {
            const Vasily__Tensorboard__Event *event = records.events[e];
            const long long step = event->step;
            if (event->what_case == VASILY__TENSORBOARD__EVENT__WHAT_SESSION_LOG) printf("%lld start\n", step);
            if (event->what_case != VASILY__TENSORBOARD__EVENT__WHAT_SUMMARY) continue;
            for (size_t v = 0; v < event->summary->n_value; v++) print_value(step, event->summary->value[v]);
        }
        event_records_free(&records);
        if (!whole) {
            fprintf(stderr, "%s: %s\n", argv[i], records.fault);
            return 1;
        }
    }
    return 0;
}
