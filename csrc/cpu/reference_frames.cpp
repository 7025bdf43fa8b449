#include "vilamp/reference_frames.h"

#include <algorithm>
#include <stdexcept>
#include <string>
#include <vector>

namespace vilamp {
namespace {

constexpr int64_t kNone = -1;

// The keyframes of one row, ascending, each once.
std::vector<int64_t> keyframes_of(const int64_t* indices, int64_t count) {
  std::vector<int64_t> keyframes(indices, indices + count);
  std::sort(keyframes.begin(), keyframes.end());
  keyframes.erase(std::unique(keyframes.begin(), keyframes.end()), keyframes.end());
  if (!keyframes.empty() && keyframes.front() == kNone) keyframes.erase(keyframes.begin());
  return keyframes;
}

void check(const ReferenceFramesArgs& args) {
  const int64_t n = args.out.size[1];
  int64_t low = 0, high = kNone;
  for (int64_t row = 0; row < args.indices.size[0]; ++row) {
    const int64_t* indices = args.indices.at<const int64_t>(row);
    for (int64_t i = 0; i < args.indices.size[1]; ++i) {
      low = std::min(low, indices[i]);
      high = std::max(high, indices[i]);
    }
  }
  if (low < kNone || high >= n) {
    throw std::invalid_argument("reference_frames: wanted indices in -1.." + std::to_string(n - 1) +
                                "; given values from " + std::to_string(low) + " to " +
                                std::to_string(high));
  }
}

}  // namespace

void reference_frames(const ReferenceFramesArgs& args) {
  check(args);
  for (int64_t row = 0; row < args.out.size[0]; ++row) {
    const std::vector<int64_t> keyframes =
        keyframes_of(args.indices.at<const int64_t>(row), args.indices.size[1]);
    const int64_t count = keyframes.size();
    int64_t* out = args.out.at<int64_t>(row);
    // `next` is the ordinal of the first keyframe after the frame.
    int64_t next = 0;
    for (int64_t frame = 0; frame < args.out.size[1]; ++frame) {
      if (next < count && keyframes[next] == frame) ++next;
      const int64_t before = next > 0 ? keyframes[next - 1] : kNone;
      switch (args.policy) {
        case ReferencePolicy::kPreceding:
          out[frame] = before;
          break;
        case ReferencePolicy::kReleased:
          // The published code looks up the keyframe's ordinal where its number was meant.
          out[frame] = next > 0 ? next - 1 : frame;
          break;
        case ReferencePolicy::kNearest: {
          const bool later =
              next < count && (before == kNone || keyframes[next] - frame < frame - before);
          out[frame] = later ? keyframes[next] : before;
          break;
        }
      }
    }
  }
}

}  // namespace vilamp
