#include "vilamp/tone_map.h"

#include <algorithm>
#include <cmath>

// A second copy of a loop for AVX2, chosen when the module is loaded. Without FMA its results are
// those of the first, bit for bit.
#if defined(__x86_64__) && defined(__gnu_linux__) && defined(__GNUC__) && !defined(__clang__) && \
    !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
#define VILAMP_ALSO_AVX2 __attribute__((target_clones("avx2", "default")))
#else
#define VILAMP_ALSO_AVX2
#endif

namespace vilamp {
namespace {

// So few pixels at a time that all between two steps stays in the nearest cache.
constexpr int64_t kPixels = 256;

struct Block {
  float light[3][kPixels];
  int32_t index[3][kPixels];
};

// Written so that compilers make minimum and maximum of it, not branches; NaN becomes 0.
inline float unit(float x) {
  x = x > 0 ? x : 0;
  return x < 1 ? x : 1;
}

void look_up_light(const uint16_t* codes, int64_t count, const float* light, float* out) {
  for (int64_t i = 0; i < count; ++i) out[i] = light[codes[i]];
}

VILAMP_ALSO_AVX2 void apply_gain(Block& block, int64_t count, const ToneMapArgs& args) {
  const float red = args.luminance[0], green = args.luminance[1], blue = args.luminance[2];
  const float last = static_cast<float>(args.gain.size[0] - 1);
  const float* gain = args.gain.at<const float>();
  float *r = block.light[0], *g = block.light[1], *b = block.light[2];
  int32_t* index = block.index[0];
  for (int64_t i = 0; i < count; ++i)
    index[i] =
        static_cast<int32_t>(std::sqrt(unit(red * r[i] + green * g[i] + blue * b[i])) * last + .5f);
  for (int64_t i = 0; i < count; ++i) {
    const float factor = gain[index[i]];
    r[i] *= factor;
    g[i] *= factor;
    b[i] *= factor;
  }
}

VILAMP_ALSO_AVX2 void compress_and_convert(Block& block, int64_t count, const ToneMapArgs& args) {
  const ToneCurve curve = args.curve;
  const std::array<float, 9> m = args.primaries;
  const float last = static_cast<float>(args.levels.size[0] - 1);
  for (int64_t i = 0; i < count; ++i) {
    const float r = block.light[0][i], g = block.light[1][i], b = block.light[2][i];
    float brightest = r > g ? r : g;
    brightest = brightest > b ? brightest : b;
    // At the knee the curve is the identity.
    brightest = brightest > curve.knee ? brightest : curve.knee;
    float factor = curve.scale * (brightest + curve.a) / (brightest + curve.b);
    factor = (factor < 1 ? factor : 1) / brightest;
    const float x = r * factor, y = g * factor, z = b * factor;
    for (int row = 0; row < 3; ++row) {
      const float light = m[3 * row] * x + m[3 * row + 1] * y + m[3 * row + 2] * z;
      block.index[row][i] = static_cast<int32_t>(unit(light) * last + .5f);
    }
  }
}

void look_up_levels(const Block& block, int64_t count, const uint8_t* levels, uint8_t* out) {
  for (int64_t i = 0; i < count; ++i)
    for (int channel = 0; channel < 3; ++channel)
      out[3 * i + channel] = levels[block.index[channel][i]];
}

}  // namespace

void tone_map(const ToneMapArgs& args) {
  const int64_t height = args.out.size[0], width = args.out.size[1];
  Block block;
  for (int64_t row = 0; row < height; ++row) {
    for (int64_t first = 0; first < width; first += kPixels) {
      const int64_t count = std::min(kPixels, width - first);
      for (int channel = 0; channel < 3; ++channel)
        look_up_light(args.codes[channel].at<const uint16_t>(row, first), count,
                      args.light.at<const float>(), block.light[channel]);
      if (args.gain) apply_gain(block, count, args);
      compress_and_convert(block, count, args);
      look_up_levels(block, count, args.levels.at<const uint8_t>(),
                     args.out.at<uint8_t>(row, first));
    }
  }
}

}  // namespace vilamp
