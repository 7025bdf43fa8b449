// The Python module vilamp.video._tone_map: codes of red, green and blue to 8-bit levels, by
// tables, a curve on the brightest of them, and a change of primaries. What the numbers mean is up
// to the caller (python/vilamp/video/hdr.py).
#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <optional>
#include <stdexcept>
#include <string>

#include "vilamp/tensor.h"

// A second copy of a loop for AVX2, chosen when the module is loaded. Without FMA its results are
// those of the first, bit for bit.
#if defined(__x86_64__) && defined(__gnu_linux__) && defined(__GNUC__) && !defined(__clang__) && \
    !defined(__SANITIZE_ADDRESS__) && !defined(__SANITIZE_THREAD__)
#define VILAMP_ALSO_AVX2 __attribute__((target_clones("avx2", "default")))
#else
#define VILAMP_ALSO_AVX2
#endif

namespace py = pybind11;

namespace vilamp {
namespace {

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

// One thread; each pixel by itself.
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

void require(bool holds, const char* wanted) {
  if (!holds) throw std::invalid_argument(std::string("tone_map: wanted ") + wanted);
}

template <size_t kRank, typename T>
Tensor<kRank> tensor(const char* wanted, const py::array_t<T>& given) {
  require(given.ndim() == kRank, wanted);
  Tensor<kRank> made;
  made.data = const_cast<T*>(given.data());
  for (size_t i = 0; i < kRank; ++i) {
    made.size[i] = given.shape(i);
    made.stride[i] = given.strides(i) / static_cast<int64_t>(sizeof(T));
  }
  require(made.stride[kRank - 1] == 1 || made.size[kRank - 1] <= 1 || given.size() == 0,
          "a last stride of 1");
  return made;
}

py::array_t<uint8_t> call(const std::array<py::array_t<uint16_t>, 3>& codes,
                          const py::array_t<float>& light,
                          const std::optional<py::array_t<float>>& gain,
                          const py::array_t<uint8_t>& levels, const std::array<float, 3>& luminance,
                          const std::array<float, 9>& primaries,
                          const std::array<float, 4>& curve) {
  ToneMapArgs args{};
  for (size_t i = 0; i < 3; ++i) args.codes[i] = tensor<2>("codes [H, W]", codes[i]);
  const auto size = args.codes[0].size;
  for (const Tensor<2>& plane : args.codes) require(plane.size == size, "codes of one size");
  args.light = tensor<1>("light [65536]", light);
  if (gain) args.gain = tensor<1>("gain [G]", *gain);
  args.levels = tensor<1>("levels [L]", levels);
  args.luminance = luminance;
  args.primaries = primaries;
  args.curve = {curve[0], curve[1], curve[2], curve[3]};
  require(args.light.size[0] == 65536, "the light of 65536 codes");
  require(!gain || args.gain.size[0] >= 1, "at least one gain");
  require(args.levels.size[0] >= 1, "at least one level");
  require(args.curve.knee > 0, "a knee > 0");
  py::array_t<uint8_t> out({size[0], size[1], int64_t{3}});
  args.out = tensor<3>("out", out);
  const py::gil_scoped_release released;
  tone_map(args);
  return out;
}

}  // namespace
}  // namespace vilamp

PYBIND11_MODULE(_tone_map, m) {
  using pybind11::arg;
  m.def("tone_map", &vilamp::call, pybind11::kw_only(), arg("codes").noconvert(), arg("light"),
        arg("gain"), arg("levels"), arg("luminance"), arg("primaries"), arg("curve"),
        "uint8 [H, W, 3] of three planes of codes, uint16 [H, W] each, in this thread.");
}
