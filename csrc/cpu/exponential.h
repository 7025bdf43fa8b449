// The exponential of both types of sums, by one name.
#pragma once

#include <math.h>

#include "vilamp/scalar.h"

namespace vilamp {

VILAMP_INLINE float exponential(float x) { return expf(x); }
VILAMP_INLINE double exponential(double x) { return exp(x); }

}  // namespace vilamp
