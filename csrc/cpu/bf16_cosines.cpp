// Projected pooling's cosines for bf16: threads share out the patches, 48 at a time, and go through
// the video for each, so that a reference is mapped once and stays in cache.
#include <algorithm>
#include <stdexcept>
#include <vector>

#include "dots.h"
#include "kernels.h"
#include "vilamp/mapped.h"
#include "vilamp/parallel.h"

namespace vilamp {
namespace {

constexpr int64_t kNone = -1, kItself = -2;

// One linear map [P, C] with its bias.
struct LinearMap {
  const Tensor<2>& weight;
  const Tensor<1>& bias;
};

// 48 patches, from `first` on, of every frame.
class Panel {
 public:
  Panel(const Bf16CosinesArgs& args, int64_t first)
      : args_(args),
        first_(first),
        patches_(std::min(kPanelPatches, args.patches.size[1] - first)),
        questions_(args.units.size[0]),
        packed_((args.patches.size[2] + 1) / 2 * kPanelPatches),
        squares_(kPanelPatches),
        dots_(questions_ * kPanelPatches),
        keys_(questions_) {}

  void run() {
    for (int64_t n = 0; n < args_.patches.size[0]; ++n) {
      pack(args_.patches.at<const BFloat16>(n, first_), args_.patches.stride[1]);
      with_queries(n);
      if (any_key(n)) with_keys(n);
    }
  }

 private:
  // Mapped patches of a reference frame, and their squares.
  struct Key {
    int64_t row = kNone;
    std::vector<float> mapped;
    std::vector<float> squares;
  };

  int64_t assigned(int64_t q, int64_t n) const { return *args_.assignment.at<const int64_t>(q, n); }

  bool any_key(int64_t n) const {
    for (int64_t q = 0; q < questions_; ++q) {
      if (assigned(q, n) != kNone) return true;
    }
    return false;
  }

  // Pairs of elements, patches side by side, zeros past the last one.
  void pack(const BFloat16* x, int64_t stride) {
    const int64_t width = args_.patches.size[2], pairs = width / 2;
    if (patches_ < kPanelPatches || width % 2) std::fill(packed_.begin(), packed_.end(), 0);
    for (int64_t j = 0; j < patches_; ++j) {
      const BFloat16* row = x + j * stride;
      for (int64_t i = 0; i < pairs; ++i) {
        std::memcpy(&packed_[i * kPanelPatches + j], row + 2 * i, sizeof(uint32_t));
      }
      if (width % 2) packed_[pairs * kPanelPatches + j] = row[width - 1].bits;
    }
  }

  void map(const LinearMap& map, float* keep, float* squares,
           const std::vector<const float*>& others, bool panels) {
    MappedPanel in{};
    in.packed = packed_.data();
    in.w = map.weight.at<const BFloat16>();
    in.w_stride = map.weight.stride[0];
    in.bias = map.bias.at<const float>();
    in.rows = map.weight.size[0];
    in.width = map.weight.size[1];
    in.keep = keep;
    in.squares = squares;
    in.others = others.data();
    in.count = others.size();
    in.panels = panels;
    in.dots = dots_.data();
    kernel_table().mapped_panel(in);
  }

  float norm(float squares) const { return floored_norm(squares, static_cast<float>(args_.eps)); }

  void with_queries(int64_t n) {
    std::vector<const float*> units;
    for (int64_t q = 0; q < questions_; ++q) units.push_back(args_.units.at<const float>(q));
    map({args_.w_iq, args_.b_iq}, nullptr, squares_.data(), units, false);
    for (int64_t q = 0; q < questions_; ++q) {
      float* out = args_.cos_query.at<float>(q, n, first_);
      for (int64_t m = 0; m < patches_; ++m) {
        out[m] = dots_[q * kPanelPatches + m] / norm(squares_[m]);
      }
    }
  }

  void with_keys(int64_t n) {
    std::vector<const Key*> key_of(questions_);
    std::vector<const float*> panels;
    std::vector<int64_t> asked;
    bool repack = false;
    for (int64_t q = 0; q < questions_; ++q) {
      if (assigned(q, n) == kNone) continue;
      key_of[q] = &key(q, n, repack);
      panels.push_back(key_of[q]->mapped.data());
      asked.push_back(q);
    }
    if (repack) pack(args_.patches.at<const BFloat16>(n, first_), args_.patches.stride[1]);
    map({args_.w_ik, args_.b_ik}, nullptr, squares_.data(), panels, true);
    for (size_t i = 0; i < asked.size(); ++i) {
      float* out = args_.cos_key.at<float>(asked[i], n, first_);
      const Key& key = *key_of[asked[i]];
      for (int64_t m = 0; m < patches_; ++m) {
        out[m] = dots_[i * kPanelPatches + m] / norm(squares_[m]) / norm(key.squares[m]);
      }
    }
  }

  // The mapped reference of a question, from the frame before or made anew.
  const Key& key(int64_t q, int64_t n, bool& repack) {
    const int64_t row = assigned(q, n);
    Key& own = keys_[q];
    if (row != kItself) {
      if (own.row == row) return own;
      for (int64_t other = 0; other < q; ++other) {
        // Asked for this very frame, so it stays as it is until the cosines are taken.
        if (assigned(other, n) == row && keys_[other].row == row) return keys_[other];
      }
    }
    own.row = row;
    own.mapped.resize(args_.w_k.size[0] * kPanelPatches);
    own.squares.resize(kPanelPatches);
    if (row == kItself) {
      pack(args_.patches.at<const BFloat16>(n, first_), args_.patches.stride[1]);
      own.row = kNone;  // of this frame only
    } else {
      pack(args_.references.at<const BFloat16>(row, first_), args_.references.stride[1]);
    }
    repack = true;
    map({args_.w_k, args_.b_k}, own.mapped.data(), own.squares.data(), {}, false);
    return own;
  }

  const Bf16CosinesArgs& args_;
  int64_t first_, patches_, questions_;
  std::vector<uint32_t> packed_;
  std::vector<float> squares_, dots_;
  std::vector<Key> keys_;
};

}  // namespace

bool has_bf16_cosines() { return kernel_table().mapped_panel != nullptr; }

void bf16_cosines(const Bf16CosinesArgs& args) {
  if (args.cos_query.elements() == 0) return;
  parallel_for(args.patches.size[1], kPanelPatches, args.threads,
               [&](int64_t begin, int64_t) { Panel(args, begin).run(); });
}

}  // namespace vilamp
