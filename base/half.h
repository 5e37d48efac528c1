/* IEEE 754 binary16, as files hold it. */
#ifndef BASE_HALF_H
#define BASE_HALF_H

#include <stdint.h>

float half_to_f32(uint16_t half);
uint16_t half_from_f32(float value); /* round to nearest even; overflow to infinity; NaN stays NaN */

#endif
