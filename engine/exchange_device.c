/* A device's half of the exchange: not there yet. */
#include "engine/exchange_internal.h"

static Status missing(void)
{
    return status_fail(ERR_UNSUPPORTED, __FILE__, __LINE__, "several ranks on devices: not in this build");
}

Status exchange_device_open(Exchange *x)
{
    return missing();
}

void exchange_device_close(Exchange *x)
{
}

Status exchange_device_bucket_ready(Exchange *x, int32_t bucket)
{
    return missing();
}

Status exchange_device_wait_gradients(Exchange *x)
{
    return missing();
}

Status exchange_device_gather_blocks(Exchange *x, double *sums)
{
    return missing();
}

Status exchange_device_gather_weights(Exchange *x)
{
    return missing();
}

Status exchange_device_weights_needed(Exchange *x, int32_t bucket)
{
    return missing();
}

Status exchange_device_exposed_seconds(Exchange *x, double *seconds)
{
    return missing();
}
