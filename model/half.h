/* The old place of base/half.h. */
#include "base/half.h"
