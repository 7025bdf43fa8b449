#include "vilamp/pooling.h"

#include <algorithm>
#include <stdexcept>
#include <string>
#include <vector>

#include "by_dtype.h"
#include "kernels.h"
#include "unit_rows.h"
#include "vilamp/parallel.h"

namespace vilamp {
namespace {

constexpr int64_t kNone = -1, kItself = -2;

void check_assignment(const PoolInputs& in) {
  const int64_t rows = in.references.size[1];
  if (in.assignment.elements() == 0) return;
  int64_t low = *in.assignment.at<const int64_t>(), high = low;
  for (int64_t b = 0; b < in.assignment.size[0]; ++b) {
    for (int64_t q = 0; q < in.assignment.size[1]; ++q) {
      const int64_t* row = in.assignment.at<const int64_t>(b, q);
      for (int64_t n = 0; n < in.assignment.size[2]; ++n) {
        low = std::min(low, row[n]);
        high = std::max(high, row[n]);
      }
    }
  }
  if (low < kItself || high >= rows) {
    throw std::invalid_argument("differential_pool: wanted assignment in -2.." +
                                std::to_string(rows - 1) + "; given values from " +
                                std::to_string(low) + " to " + std::to_string(high));
  }
}

// What the frames of one video share, and the arguments of each frame made from it.
template <typename T>
class Video {
 public:
  Video(const PoolInputs& in, int64_t b)
      : in_(in), b_(b), units_(in.queries.size[1], in.queries.size[2]) {
    for (int64_t q = 0; q < questions(); ++q) units_.set(q, in.queries.at<const T>(b, q), in.eps);
  }

  int64_t questions() const { return in_.queries.size[1]; }
  int64_t assigned(int64_t q, int64_t n) const {
    return *in_.assignment.at<const int64_t>(b_, q, n);
  }
  const T* reference(int64_t r, int64_t m) const { return in_.references.at<const T>(b_, r, m); }
  const UnitRows<T>& units() const { return units_; }

  // Frame n; `keys` and `strides` are room for one entry per question.
  PoolFrame<T> frame(int64_t n, std::vector<const T*>& keys, std::vector<int64_t>& strides) const {
    PoolFrame<T> frame{};
    frame.x = in_.patches.at<const T>(b_, n);
    frame.x_stride = in_.patches.stride[2];
    frame.patches = in_.patches.size[2];
    frame.width = in_.patches.size[3];
    frame.questions = questions();
    frame.units = units_.at(0);
    frame.raw = units_.raw.data();
    frame.norms = units_.norms.data();
    for (int64_t q = 0; q < questions(); ++q) {
      const int64_t row = assigned(q, n);
      keys[q] = row == kNone ? nullptr : row == kItself ? frame.x : reference(row, 0);
      strides[q] = row == kItself ? frame.x_stride : in_.references.stride[2];
    }
    frame.keys = keys.data();
    frame.key_strides = strides.data();
    frame.alpha = static_cast<Acc<T>>(in_.alpha);
    frame.lam = static_cast<Acc<T>>(in_.lam);
    frame.eps = static_cast<Acc<T>>(in_.eps);
    return frame;
  }

 private:
  const PoolInputs& in_;
  int64_t b_;
  UnitRows<T> units_;
};

template <typename T>
void pool_of(const PoolArgs& args) {
  const int64_t frames = args.in.patches.size[1];
  for (int64_t b = 0; b < args.in.patches.size[0]; ++b) {
    const Video<T> video(args.in, b);
    const int64_t questions = video.questions();
    parallel_for(frames, 1, args.in.threads, [&](int64_t begin, int64_t end) {
      std::vector<const T*> keys(questions);
      std::vector<int64_t> strides(questions);
      std::vector<Acc<T>*> tokens(questions), weights(questions);
      for (int64_t n = begin; n < end; ++n) {
        PoolFrame<T> frame = video.frame(n, keys, strides);
        for (int64_t q = 0; q < questions; ++q) {
          tokens[q] = args.tokens.at<Acc<T>>(b, q, n);
          weights[q] = args.weights ? args.weights.at<Acc<T>>(b, q, n) : nullptr;
        }
        frame.tokens = tokens.data();
        frame.weights = weights.data();
        kernels<T>().pool(frame);
      }
    });
  }
}

// Frames of one video, and what their gradients leave behind for the queries and the bank.
template <typename T>
class Backward {
  using A = Acc<T>;

 public:
  Backward(const PoolBackwardArgs& args, int64_t b)
      : args_(args),
        b_(b),
        video_(args.in, b),
        frames_(args.in.patches.size[1]),
        patches_(args.in.patches.size[2]),
        width_(args.in.patches.size[3]),
        questions_(video_.questions()),
        // At most 64 chunks, since each keeps sums of its own; they are added up in their order.
        chunk_(std::max<int64_t>(1, (frames_ + 63) / 64)),
        chunks_((frames_ + chunk_ - 1) / chunk_),
        grad_alpha_(chunks_),
        grad_lam_(chunks_),
        sum_cosine_(chunks_ * questions_),
        sum_rows_(args.grad_queries ? chunks_ * questions_ * width_ : 0) {
    if (args.grad_references) {
      bank_x_.resize(questions_ * frames_ * patches_);
      bank_key_.resize(questions_ * frames_ * patches_);
    }
  }

  void run() {
    parallel_for(frames_, chunk_, args_.in.threads,
                 [&](int64_t begin, int64_t end) { frames(begin, end); });
    for (int64_t i = 0; i < chunks_; ++i) {
      *args_.grad_alpha += grad_alpha_[i];
      *args_.grad_lam += grad_lam_[i];
    }
    if (args_.grad_queries) {
      for (int64_t q = 0; q < questions_; ++q) query(q);
    }
    if (args_.grad_references) bank();
  }

 private:
  void frames(int64_t begin, int64_t end) {
    std::vector<const T*> keys(questions_);
    std::vector<int64_t> strides(questions_);
    std::vector<const A*> grad_tokens(questions_), grad_weights(questions_);
    std::vector<A*> bank_x(questions_), bank_key(questions_);
    // Not vector<bool>: the kernel wants an address.
    std::vector<char> itself(questions_);
    std::vector<A> norms(patches_), row(width_), scratch(5 * questions_ * patches_);
    std::vector<PatchGrads<A>> of(questions_);
    for (int64_t q = 0; q < questions_; ++q) {
      A* room = scratch.data() + 5 * q * patches_;
      of[q] = {room, room + patches_, room + 2 * patches_, room + 3 * patches_,
               room + 4 * patches_};
    }
    const int64_t i = begin / chunk_;
    for (int64_t n = begin; n < end; ++n) {
      if (questions_ == 0) {
        if (args_.grad_patches) {
          std::fill_n(args_.grad_patches.at<T>(b_, n), patches_ * width_, T{});
        }
        continue;
      }
      PoolBackwardFrame<T> in{};
      in.forward = video_.frame(n, keys, strides);
      for (int64_t q = 0; q < questions_; ++q) {
        grad_tokens[q] = args_.grad_tokens.at<const A>(b_, q, n);
        grad_weights[q] = args_.grad_weights ? args_.grad_weights.at<const A>(b_, q, n) : nullptr;
        itself[q] = video_.assigned(q, n) == kItself;
        const int64_t at = (q * frames_ + n) * patches_;
        bank_x[q] = bank_x_.empty() ? nullptr : bank_x_.data() + at;
        bank_key[q] = bank_key_.empty() ? nullptr : bank_key_.data() + at;
      }
      in.itself = itself.data();
      in.grad_tokens = grad_tokens.data();
      in.grad_weights = grad_weights.data();
      in.grad_x = args_.grad_patches ? args_.grad_patches.at<T>(b_, n) : nullptr;
      in.sum_rows = sum_rows_.empty() ? nullptr : sum_rows_.data() + i * questions_ * width_;
      in.sum_cosine = sum_cosine_.data() + i * questions_;
      in.bank_x = bank_x.data();
      in.bank_key = bank_key.data();
      in.grad_alpha = &grad_alpha_[i];
      in.grad_lam = &grad_lam_[i];
      in.norms = norms.data();
      in.row = row.data();
      in.of = of.data();
      kernels<T>().pool_backward(in);
    }
  }

  void query(int64_t q) {
    const A* unit = video_.units().at(q);
    const A norm = video_.units().norms[q];
    double cosine = 0;
    for (int64_t i = 0; i < chunks_; ++i) cosine += sum_cosine_[i * questions_ + q];
    // A norm on its floor is a constant.
    const double own = norm > static_cast<A>(args_.in.eps) ? cosine : 0;
    T* out = args_.grad_queries.at<T>(b_, q);
    for (int64_t c = 0; c < width_; ++c) {
      double sum = 0;
      for (int64_t i = 0; i < chunks_; ++i) sum += sum_rows_[(i * questions_ + q) * width_ + c];
      from_acc(static_cast<A>((sum - own * unit[c]) / norm), out + c);
    }
  }

  // The gradient of each row of the bank, over all frames that were compared with it: threads
  // share out the patches, so that each row is summed by one of them in one order.
  void bank() {
    const int64_t rows = args_.in.references.size[1];
    std::vector<std::vector<int64_t>> users(rows);
    for (int64_t q = 0; q < questions_; ++q) {
      for (int64_t n = 0; n < frames_; ++n) {
        const int64_t r = video_.assigned(q, n);
        if (r >= 0) users[r].push_back(q * frames_ + n);
      }
    }
    parallel_for(patches_, 8, args_.in.threads, [&](int64_t begin, int64_t end) {
      std::vector<const T*> x;
      std::vector<A> scale, scratch(width_);
      for (int64_t r = 0; r < rows; ++r) {
        for (int64_t m = begin; m < end; ++m) {
          x.clear();
          scale.clear();
          double own = 0;
          for (const int64_t user : users[r]) {
            x.push_back(args_.in.patches.at<const T>(b_, user % frames_, m));
            scale.push_back(bank_x_[user * patches_ + m]);
            own += bank_key_[user * patches_ + m];
          }
          WeightedRows<T> in{};
          in.rows = x.data();
          in.scale = scale.data();
          in.count = x.size();
          in.key = video_.reference(r, m);
          in.own = static_cast<A>(own);
          in.width = width_;
          in.out = args_.grad_references.at<T>(b_, r, m);
          in.scratch = scratch.data();
          // A row that nobody was compared with may hold a NaN; its gradient is zero.
          if (in.count == 0) {
            std::fill_n(in.out, width_, T{});
          } else {
            kernels<T>().weighted_rows(in);
          }
        }
      }
    });
  }

  const PoolBackwardArgs& args_;
  int64_t b_;
  Video<T> video_;
  int64_t frames_, patches_, width_, questions_, chunk_, chunks_;
  std::vector<double> grad_alpha_, grad_lam_;
  std::vector<A> sum_cosine_;
  std::vector<A> sum_rows_;
  std::vector<A> bank_x_, bank_key_;
};

}  // namespace

void differential_pool(const PoolArgs& args) {
  check_assignment(args.in);
  by_dtype(args.in.dtype, [&](auto t) { pool_of<typename decltype(t)::type>(args); });
}

void differential_pool_backward(const PoolBackwardArgs& args) {
  check_assignment(args.in);
  by_dtype(args.in.dtype, [&](auto t) {
    using T = typename decltype(t)::type;
    for (int64_t b = 0; b < args.in.patches.size[0]; ++b) Backward<T>(args, b).run();
  });
}

}  // namespace vilamp
