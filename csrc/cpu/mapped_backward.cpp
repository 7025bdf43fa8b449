// The backward of projected pooling around its matrix products.
#include <algorithm>
#include <utility>
#include <vector>

#include "by_dtype.h"
#include "kernels.h"
#include "softmax_grads.h"
#include "vilamp/mapped.h"
#include "vilamp/parallel.h"

namespace vilamp {
namespace {

constexpr int64_t kChunkRows = 16;

// Threads share out the patches, but for the softmax: that takes all of a frame.
template <typename A>
class Frames {
 public:
  explicit Frames(const MappedBackwardArgs& args)
      : args_(args),
        questions_(args.units.size[0]),
        frames_(args.y_query.size[0]),
        patches_(args.y_query.size[1]),
        width_(args.y_query.size[2]),
        eps_(static_cast<A>(args.eps)),
        threads_(threads_for(frames_ * patches_ * width_ * (questions_ + 1), args.threads)),
        cos_query_(questions_ * frames_ * patches_),
        cos_key_(questions_ * frames_ * patches_),
        query_norm_(frames_ * patches_),
        key_norm_(frames_ * patches_),
        grad_alpha_(frames_),
        grad_lam_(frames_) {}

  void run() {
    in_chunks([&](const Chunk& chunk) { cosines(chunk); });
    parallel_for(frames_, 1, threads_, [&](int64_t frame, int64_t) {
      for (int64_t q = 0; q < questions_; ++q) softmax(q, frame);
    });
    for (int64_t frame = 0; frame < frames_; ++frame) {
      *args_.grad_alpha += grad_alpha_[frame];
      *args_.grad_lam += grad_lam_[frame];
    }
    in_chunks([&](const Chunk& chunk) {
      Coefficients by;
      coefficients(chunk, by);
      grads(chunk, by);
    });
  }

 private:
  // Some patches of one frame.
  struct Chunk {
    int64_t frame, first, count;
  };

  // What multiplies vectors in the gradients, for each patch of a chunk over all questions.
  struct Coefficients {
    A own_query[kChunkRows] = {}, own_key[kChunkRows] = {};
    A itself_y[kChunkRows] = {}, itself_own[kChunkRows] = {};
  };

  template <typename Body>
  void in_chunks(Body body) {
    const int64_t pieces = (patches_ + kChunkRows - 1) / kChunkRows;
    parallel_for(frames_ * pieces, 1, threads_, [&](int64_t piece, int64_t) {
      const int64_t first = piece % pieces * kChunkRows;
      body(Chunk{piece / pieces, first, std::min(kChunkRows, patches_ - first)});
    });
  }

  int64_t at(int64_t frame, int64_t m) const { return frame * patches_ + m; }
  int64_t at(int64_t q, int64_t frame, int64_t m) const { return at(q * frames_ + frame, m); }
  const Tensor<2>& key(int64_t q, int64_t frame) const { return args_.keys[q * frames_ + frame]; }
  bool is_itself(int64_t q, int64_t frame) const {
    return args_.itself && key(q, frame).data == args_.itself.at<A>(frame);
  }

  void cosines(const Chunk& chunk) {
    for (int64_t q = 0; q < questions_; ++q) {
      MappedCosines<A> in{};
      in.rows = chunk.count;
      in.width = width_;
      in.eps = eps_;
      in.y = args_.y_query.at<const A>(chunk.frame, chunk.first);
      in.units = args_.units.at<const A>(q);
      in.out = &cos_query_[at(q, chunk.frame, chunk.first)];
      in.norms = &query_norm_[at(chunk.frame, chunk.first)];
      kernels<A>().mapped_cosines(in);
      const Tensor<2>& other = key(q, chunk.frame);
      if (!other) continue;  // its cosines stay 0
      in.y = args_.y_key.at<const A>(chunk.frame, chunk.first);
      in.units = other.at<const A>(chunk.first);
      in.units_stride = other.stride[0];
      in.out = &cos_key_[at(q, chunk.frame, chunk.first)];
      in.norms = &key_norm_[at(chunk.frame, chunk.first)];
      kernels<A>().mapped_cosines(in);
    }
  }

  // From here on query_scale holds the gradient of each logit.
  void softmax(int64_t q, int64_t frame) {
    A* grad = args_.query_scale.at<A>(q, frame);
    std::copy_n(args_.grad.at<const A>(q, frame), patches_, grad);
    softmax_grads(SoftmaxGrads<A>{&cos_query_[at(q, frame, 0)], &cos_key_[at(q, frame, 0)],
                                  patches_, static_cast<A>(args_.alpha), static_cast<A>(args_.lam),
                                  args_.grad.at<A>(q, frame), grad},
                  &grad_alpha_[frame], &grad_lam_[frame]);
  }

  // From the gradients of the logits.
  void coefficients(const Chunk& chunk, Coefficients& by) {
    const A alpha = static_cast<A>(args_.alpha), lam = static_cast<A>(args_.lam);
    const A* query_norm = &query_norm_[at(chunk.frame, chunk.first)];
    const A* key_norm = &key_norm_[at(chunk.frame, chunk.first)];
    bool any_itself = false;
    for (int64_t q = 0; q < questions_; ++q) {
      const bool has_key = static_cast<bool>(key(q, chunk.frame));
      const bool itself = is_itself(q, chunk.frame);
      any_itself |= itself;
      const A* cos_query = &cos_query_[at(q, chunk.frame, chunk.first)];
      const A* cos_key = &cos_key_[at(q, chunk.frame, chunk.first)];
      A* query_scale = args_.query_scale.at<A>(q, chunk.frame, chunk.first);
      A* query_own = args_.query_own.at<A>(q, chunk.frame, chunk.first);
      A* key_scale = args_.key_scale.at<A>(q, chunk.frame, chunk.first);
      A* key_own = args_.key_own.at<A>(q, chunk.frame, chunk.first);
      for (int64_t i = 0; i < chunk.count; ++i) {
        const A grad = query_scale[i] / alpha;
        query_own[i] = grad * cos_query[i];
        query_scale[i] = grad / query_norm[i];
        by.own_query[i] += query_own[i];
        key_scale[i] = has_key ? -lam * grad / key_norm[i] : A(0);
        key_own[i] = has_key ? -lam * grad * cos_key[i] : A(0);
        by.own_key[i] += key_own[i];
        if (itself) {
          by.itself_y[i] += key_scale[i];
          by.itself_own[i] += key_own[i];
        }
      }
    }
    // A norm on its floor is a constant.
    for (int64_t i = 0; i < chunk.count; ++i) {
      const A query = query_norm[i], key = key_norm[i];
      by.own_query[i] = query > eps_ ? by.own_query[i] / query / query : A(0);
      by.own_key[i] = key > eps_ ? by.own_key[i] / key / key : A(0);
      if (!any_itself) continue;
      const A norm = *args_.itself_norms.at<const A>(chunk.frame, chunk.first + i);
      by.itself_y[i] /= norm;
      by.itself_own[i] = norm > eps_ ? by.itself_own[i] / norm : A(0);
    }
  }

  void grads(const Chunk& chunk, const Coefficients& by) {
    std::vector<const A*> others(questions_), scales(questions_);
    std::vector<int64_t> strides(questions_);
    MappedGrads<A> in{};
    in.rows = chunk.count;
    in.width = width_;
    in.questions = questions_;
    in.others = others.data();
    in.others_stride = strides.data();
    in.scales = scales.data();
    for (int64_t q = 0; q < questions_; ++q) {
      others[q] = args_.units.at<const A>(q);
      scales[q] = args_.query_scale.at<const A>(q, chunk.frame, chunk.first);
    }
    in.y = args_.y_query.at<A>(chunk.frame, chunk.first);
    in.own = by.own_query;
    kernels<A>().mapped_grads(in);
    if (!args_.y_key) return;
    for (int64_t q = 0; q < questions_; ++q) {
      const Tensor<2>& other = key(q, chunk.frame);
      others[q] = other ? other.at<const A>(chunk.first) : nullptr;
      strides[q] = other.stride[0];
      scales[q] = args_.key_scale.at<const A>(q, chunk.frame, chunk.first);
    }
    in.y = args_.y_key.at<A>(chunk.frame, chunk.first);
    in.own = by.own_key;
    if (args_.itself) {
      in.key = args_.itself.at<A>(chunk.frame, chunk.first);
      in.key_y = by.itself_y;
      in.key_own = by.itself_own;
    }
    kernels<A>().mapped_grads(in);
  }

  const MappedBackwardArgs& args_;
  int64_t questions_, frames_, patches_, width_;
  A eps_;
  int threads_;
  std::vector<A> cos_query_, cos_key_;    // [Q, F, M]
  std::vector<A> query_norm_, key_norm_;  // [F, M]
  std::vector<double> grad_alpha_, grad_lam_;
};

template <typename T>
void assigned_sum_of(const AssignedSumArgs& args) {
  using A = Acc<T>;
  std::vector<std::pair<int64_t, int64_t>> users;
  for (int64_t q = 0; q < args.assignment.size[0]; ++q) {
    for (int64_t n = 0; n < args.assignment.size[1]; ++n) {
      if (*args.assignment.at<const int64_t>(q, n) == args.row) users.emplace_back(q, n);
    }
  }
  parallel_for(args.out.size[0], kChunkRows, args.threads, [&](int64_t begin, int64_t end) {
    std::vector<const T*> rows(users.size());
    std::vector<A> scale(users.size());
    for (int64_t m = begin; m < end; ++m) {
      for (size_t i = 0; i < users.size(); ++i) {
        const auto [q, n] = users[i];
        rows[i] = args.patches.at<const T>(n, m);
        scale[i] = *args.scale.at<const A>(q, n, m);
      }
      kernels<T>().sum_rows(rows.data(), rows.size(), args.out.size[1], scale.data(),
                            args.out.at<A>(m));
    }
  });
}

}  // namespace

void mapped_backward(const MappedBackwardArgs& args) {
  by_acc_dtype(args.dtype, [&](auto t) { Frames<typename decltype(t)::type>(args).run(); });
}

void assigned_sum(const AssignedSumArgs& args) {
  by_dtype(args.dtype, [&](auto t) { assigned_sum_of<typename decltype(t)::type>(args); });
}

}  // namespace vilamp
