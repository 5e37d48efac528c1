/* Exponential moving average of the weights: ema = decay * ema + (1 - decay) * weights. */
#ifndef OPTIM_EMA_H
#define OPTIM_EMA_H

#include <stdbool.h>
#include <stdint.h>

/* The decay of the n-th update, n from 1: min(decay, (1 + n) / (10 + n)) with warm-up, else `decay`. */
double ema_decay_at(double decay, bool warmup, int64_t n);

#endif
