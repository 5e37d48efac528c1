#include "optim/ema.h"

double ema_decay_at(double decay, bool warmup, int64_t n)
{
    if (!warmup) return decay;
    double warm = (1.0 + (double)n) / (10.0 + (double)n);
    return warm < decay ? warm : decay;
}
