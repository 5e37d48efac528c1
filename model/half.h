/* IEEE 754 binary16, as weight files hold it. */
#ifndef MODEL_HALF_H
#define MODEL_HALF_H

#include <stdint.h>

float half_to_f32(uint16_t half);
uint16_t half_from_f32(float value); /* round to nearest even; overflow to infinity; NaN stays NaN */

#endif
