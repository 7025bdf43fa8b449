// Codes of red, green and blue to 8-bit levels, by tables, a curve on the brightest of them, and a
// change of primaries. What the numbers mean is up to the caller (python/vilamp/video/hdr.py).
#pragma once

#include <array>

#include "vilamp/tensor.h"

namespace vilamp {

// scale * (x + a) / (x + b) above the knee, identity below; never more than 1.
struct ToneCurve {
  float knee;
  float scale;
  float a;
  float b;
};

struct ToneMapArgs {
  std::array<Tensor<2>, 3> codes;  // uint16 [H, W], last stride 1
  Tensor<3> out;                   // uint8 [H, W, 3], contiguous
  Tensor<1> light;                 // fp32 [65536]: code -> light
  // fp32: what light is multiplied with, by the root of luminance from 0 to 1; none: left alone
  Tensor<1> gain;
  Tensor<1> levels;                // uint8: light from 0 to 1 -> level
  std::array<float, 3> luminance;  // weights of red, green and blue
  std::array<float, 9> primaries;  // rows of the matrix that makes the new ones
  ToneCurve curve;
};

// One thread; each pixel by itself.
void tone_map(const ToneMapArgs& args);

}  // namespace vilamp
