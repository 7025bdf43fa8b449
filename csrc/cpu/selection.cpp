// Greedy selection without an N x N matrix: candidates are visited in blocks, best first. A block
// is compared with all frames taken before it, what is left of it with each frame taken from it.
// Blocks after the one of the k-th frame are not read.
#include "vilamp/selection.h"

#include <algorithm>
#include <stdexcept>
#include <vector>

#include "by_dtype.h"
#include "even_fill.h"
#include "kernels.h"
#include "score_order.h"
#include "unit_rows.h"
#include "vilamp/parallel.h"

namespace vilamp {
namespace {

// Blocks start small, for videos whose first candidates suffice, and grow.
constexpr int64_t kFirstBlock = 64, kLargestBlock = 4096;
// Rows that one thread compares at a time, whatever the number of threads.
constexpr int64_t kChunkRows = 64;

// The selection of one question about one video.
template <typename T>
class Greedy {
 public:
  Greedy(const SelectArgs& args, int64_t video, int64_t length, int64_t rounds)
      : args_(args),
        frames_(args.frames.at<const T>(video)),
        length_(length),
        rounds_(rounds),
        taken_(rounds, args.frames.size[2]) {}

  // The frames taken, in the order in which they were.
  std::vector<int64_t> run(const Acc<T>* scores) {
    if (rounds_ == 0) return chosen_;
    const std::vector<int64_t> candidates =
        score_order(scores, length_, args_.has_min_score, static_cast<Acc<T>>(args_.min_score));
    auto block = candidates.begin();
    int64_t size = kFirstBlock;
    while (block != candidates.end() && static_cast<int64_t>(chosen_.size()) < rounds_) {
      const auto next = block + std::min<int64_t>(size, candidates.end() - block);
      order_.assign(block, next);
      visit();
      block = next;
      size = std::min(2 * size, kLargestBlock);
    }
    return chosen_;
  }

 private:
  // One block: what is unlike all frames taken before it stays, then one after the other is taken.
  void visit() {
    drop_redundant(0, static_cast<int64_t>(chosen_.size()));
    while (!order_.empty() && static_cast<int64_t>(chosen_.size()) < rounds_) {
      const int64_t slot = chosen_.size();
      const int64_t frame = order_.front();
      taken_.set(slot, frames_ + frame * args_.frames.stride[1], args_.eps);
      chosen_.push_back(frame);
      order_.erase(order_.begin());
      if (slot + 1 < rounds_) drop_redundant(slot, 1);
    }
  }

  // Drops those of `order_` that are too similar to `count` taken frames from `first` on.
  void drop_redundant(int64_t first, int64_t count) {
    if (count == 0 || order_.empty()) return;
    redundant_.resize(order_.size());
    RedundantRows<T> in{};
    in.frames = frames_;
    in.stride = args_.frames.stride[1];
    in.taken = taken_.at(first);
    in.taken_count = count;
    in.width = args_.frames.size[2];
    in.tau = static_cast<Acc<T>>(args_.tau);
    in.eps = static_cast<Acc<T>>(args_.eps);
    const int64_t rows = order_.size();
    const int threads = threads_for(rows * count * in.width, args_.threads);
    parallel_for(rows, kChunkRows, threads, [&](int64_t begin, int64_t end) {
      RedundantRows<T> part = in;
      part.candidates = order_.data() + begin;
      part.count = end - begin;
      part.redundant = redundant_.data() + begin;
      kernels<T>().redundant(part);
    });
    size_t kept = 0;
    for (int64_t i = 0; i < rows; ++i) {
      if (!redundant_[i]) order_[kept++] = order_[i];
    }
    order_.resize(kept);
  }

  const SelectArgs& args_;
  const T* frames_;
  int64_t length_;
  int64_t rounds_;
  UnitRows<T> taken_;
  std::vector<int64_t> order_;
  std::vector<uint8_t> redundant_;
  std::vector<int64_t> chosen_;
};

void check_lengths(const SelectArgs& args) {
  const int64_t n = args.frames.size[1];
  for (int64_t b = 0; args.lengths && b < args.lengths.size[0]; ++b) {
    const int64_t length = *args.lengths.at<const int64_t>(b);
    if (length < 0 || length > n) {
      throw std::invalid_argument("select_keyframes: wanted lengths in 0.." + std::to_string(n) +
                                  "; given " + std::to_string(length));
    }
  }
}

template <typename T>
void select_of(const SelectArgs& args) {
  const int64_t n = args.frames.size[1], k = args.indices.size[2];
  for (int64_t b = 0; b < args.scores.size[0]; ++b) {
    const int64_t length = args.lengths ? *args.lengths.at<const int64_t>(b) : n;
    for (int64_t q = 0; q < args.scores.size[1]; ++q) {
      Greedy<T> greedy(args, b, length, std::min(k, length));
      std::vector<int64_t> chosen = greedy.run(args.scores.at<const Acc<T>>(b, q));
      std::sort(chosen.begin(), chosen.end());
      if (args.fill) chosen = even_fill(chosen, length, k);
      int64_t* indices = args.indices.at<int64_t>(b, q);
      std::fill_n(indices, k, -1);
      std::copy(chosen.begin(), chosen.end(), indices);
      *args.count.at<int64_t>(b, q) = chosen.size();
    }
  }
}

}  // namespace

void select_keyframes(const SelectArgs& args) {
  check_lengths(args);
  by_dtype(args.dtype, [&](auto t) { select_of<typename decltype(t)::type>(args); });
}

void fill_keyframes(const FillArgs& args) {
  const int64_t n = args.mask.size[1];
  for (int64_t row = 0; row < args.mask.size[0]; ++row) {
    const uint8_t* mask = args.mask.at<const uint8_t>(row);
    uint8_t* out = args.out.at<uint8_t>(row);
    std::vector<int64_t> chosen;
    for (int64_t i = 0; i < n; ++i) {
      if (mask[i]) chosen.push_back(i);
    }
    std::fill_n(out, n, 0);
    for (const int64_t i : even_fill(chosen, n, args.k)) out[i] = 1;
  }
}

}  // namespace vilamp
