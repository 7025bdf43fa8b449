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

// One frame: threads share out its patches, but for the softmax over all of them.
template <typename A>
class Frame {
 public:
  explicit Frame(const MappedBackwardArgs& args)
      : args_(args),
        questions_(args.units.size[0]),
        patches_(args.y_query.size[0]),
        width_(args.y_query.size[1]),
        eps_(static_cast<A>(args.eps)),
        cos_query_(questions_ * patches_),
        cos_key_(questions_ * patches_),
        query_norm_(patches_),
        key_norm_(patches_),
        own_query_(patches_),
        own_key_(patches_),
        itself_y_(args.itself ? patches_ : 0),
        itself_own_(args.itself ? patches_ : 0) {}

  void run() {
    in_chunks([&](int64_t begin, int64_t end) { cosines(begin, end); });
    for (int64_t q = 0; q < questions_; ++q) softmax(q);
    in_chunks([&](int64_t begin, int64_t end) {
      coefficients(begin, end);
      grads(begin, end);
    });
  }

 private:
  template <typename Body>
  void in_chunks(Body body) {
    parallel_for(patches_, kChunkRows, args_.threads, body);
  }

  void cosines(int64_t begin, int64_t end) {
    for (int64_t q = 0; q < questions_; ++q) {
      MappedCosines<A> in{};
      in.rows = end - begin;
      in.width = width_;
      in.eps = eps_;
      in.y = args_.y_query.at<const A>(begin);
      in.units = args_.units.at<const A>(q);
      in.out = &cos_query_[q * patches_ + begin];
      in.norms = &query_norm_[begin];
      kernels<A>().mapped_cosines(in);
      if (!args_.keys[q]) continue;  // its cosines stay 0
      in.y = args_.y_key.at<const A>(begin);
      in.units = args_.keys[q].at<const A>(begin);
      in.units_stride = args_.keys[q].stride[0];
      in.out = &cos_key_[q * patches_ + begin];
      in.norms = &key_norm_[begin];
      kernels<A>().mapped_cosines(in);
    }
  }

  // From here on query_scale holds the gradient of each logit.
  void softmax(int64_t q) {
    A* grad = args_.query_scale.at<A>(q);
    std::copy_n(args_.grad.at<const A>(q), patches_, grad);
    softmax_grads(SoftmaxGrads<A>{&cos_query_[q * patches_], &cos_key_[q * patches_], patches_,
                                  static_cast<A>(args_.alpha), static_cast<A>(args_.lam),
                                  args_.grad.at<A>(q), grad},
                  args_.grad_alpha, args_.grad_lam);
  }

  // What multiplies each vector in the gradients, from the gradients of the logits.
  void coefficients(int64_t begin, int64_t end) {
    const A alpha = static_cast<A>(args_.alpha), lam = static_cast<A>(args_.lam);
    for (int64_t q = 0; q < questions_; ++q) {
      const bool key = static_cast<bool>(args_.keys[q]);
      const bool itself = key && args_.keys[q].data == args_.itself.data;
      A* query_scale = args_.query_scale.at<A>(q);
      A* query_own = args_.query_own.at<A>(q);
      A* key_scale = args_.key_scale.at<A>(q);
      A* key_own = args_.key_own.at<A>(q);
      for (int64_t m = begin; m < end; ++m) {
        const A grad = query_scale[m] / alpha;
        query_own[m] = grad * cos_query_[q * patches_ + m];
        query_scale[m] = grad / query_norm_[m];
        own_query_[m] += query_own[m];
        key_scale[m] = key ? -lam * grad / key_norm_[m] : A(0);
        key_own[m] = key ? -lam * grad * cos_key_[q * patches_ + m] : A(0);
        own_key_[m] += key_own[m];
        if (itself) {
          itself_y_[m] += key_scale[m];
          itself_own_[m] += key_own[m];
        }
      }
    }
    // A norm on its floor is a constant.
    for (int64_t m = begin; m < end; ++m) {
      const A query = query_norm_[m], key = key_norm_[m];
      own_query_[m] = query > eps_ ? own_query_[m] / query / query : A(0);
      own_key_[m] = key > eps_ ? own_key_[m] / key / key : A(0);
      if (!args_.itself) continue;
      const A norm = *args_.itself_norms.at<const A>(m);
      itself_y_[m] /= norm;
      itself_own_[m] = norm > eps_ ? itself_own_[m] / norm : A(0);
    }
  }

  void grads(int64_t begin, int64_t end) {
    std::vector<const A*> others(questions_), scales(questions_);
    std::vector<int64_t> strides(questions_);
    MappedGrads<A> in{};
    in.rows = end - begin;
    in.width = width_;
    in.questions = questions_;
    in.others = others.data();
    in.others_stride = strides.data();
    in.scales = scales.data();
    for (int64_t q = 0; q < questions_; ++q) {
      others[q] = args_.units.at<const A>(q);
      scales[q] = args_.query_scale.at<const A>(q, begin);
    }
    in.y = args_.y_query.at<A>(begin);
    in.own = &own_query_[begin];
    kernels<A>().mapped_grads(in);
    if (!args_.y_key) return;
    for (int64_t q = 0; q < questions_; ++q) {
      const Tensor<2>& key = args_.keys[q];
      others[q] = key ? key.at<const A>(begin) : nullptr;
      strides[q] = key.stride[0];
      scales[q] = args_.key_scale.at<const A>(q, begin);
    }
    in.y = args_.y_key.at<A>(begin);
    in.own = &own_key_[begin];
    if (args_.itself) {
      in.key = args_.itself.at<A>(begin);
      in.key_y = &itself_y_[begin];
      in.key_own = &itself_own_[begin];
    }
    kernels<A>().mapped_grads(in);
  }

  const MappedBackwardArgs& args_;
  int64_t questions_, patches_, width_;
  A eps_;
  std::vector<A> cos_query_, cos_key_;    // [Q, M]
  std::vector<A> query_norm_, key_norm_;  // [M]
  std::vector<A> own_query_, own_key_;    // [M]
  std::vector<A> itself_y_, itself_own_;  // [M]
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
  by_acc_dtype(args.dtype, [&](auto t) { Frame<typename decltype(t)::type>(args).run(); });
}

void assigned_sum(const AssignedSumArgs& args) {
  by_dtype(args.dtype, [&](auto t) { assigned_sum_of<typename decltype(t)::type>(args); });
}

}  // namespace vilamp
