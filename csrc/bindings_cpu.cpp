// The Python module vilamp_kernels._cpu: addresses, sizes and strides in, nothing of torch.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <optional>
#include <stdexcept>
#include <string>
#include <tuple>

#include "vilamp/bandwidth.h"
#include "vilamp/instruction_set.h"
#include "vilamp/mapped.h"
#include "vilamp/parallel.h"
#include "vilamp/pooling.h"
#include "vilamp/reference_frames.h"
#include "vilamp/selection.h"
#include "vilamp/similarity.h"

#if defined(__clang__)
#define VILAMP_COMPILER "Clang " __clang_version__
#elif defined(__GNUC__)
#define VILAMP_COMPILER "GCC " __VERSION__
#else
#define VILAMP_COMPILER "an unknown compiler"
#endif

namespace py = pybind11;

namespace vilamp {
namespace {

// A tensor in Python: (address, sizes, strides in elements). The last stride has to be 1.
template <size_t kRank>
using Given = std::tuple<uintptr_t, std::array<int64_t, kRank>, std::array<int64_t, kRank>>;
// None for what is not wanted.
template <size_t kRank>
using Maybe = std::optional<Given<kRank>>;

// Complaints begin with the name of the op.
class Op {
 public:
  explicit Op(const char* name) : name_(name) {}

  void require(bool holds, const std::string& wanted) const {
    if (!holds) throw std::invalid_argument(std::string(name_) + ": " + wanted);
  }

  DType dtype(const std::string& name) const {
    if (name == "float32") return DType::kFloat32;
    if (name == "float64") return DType::kFloat64;
    if (name == "bfloat16") return DType::kBFloat16;
    if (name == "float16") return DType::kFloat16;
    throw std::invalid_argument(
        std::string(name_) + ": wanted dtype float32, float64, bfloat16 or float16; given " + name);
  }

  template <size_t kRank>
  Tensor<kRank> tensor(const char* what, const Given<kRank>& given) const {
    Tensor<kRank> tensor;
    tensor.data = reinterpret_cast<void*>(std::get<0>(given));
    tensor.size = std::get<1>(given);
    tensor.stride = std::get<2>(given);
    for (const int64_t size : tensor.size)
      require(size >= 0, std::string("negative size of ") + what);
    require(tensor.data || tensor.elements() == 0, std::string(what) + " has no address");
    require(tensor.stride[kRank - 1] == 1 || tensor.size[kRank - 1] <= 1 || tensor.elements() == 0,
            std::string("wanted a last stride of 1 for ") + what);
    return tensor;
  }

  template <size_t kRank>
  Tensor<kRank> tensor(const char* what, const Maybe<kRank>& given) const {
    return given ? tensor<kRank>(what, *given) : Tensor<kRank>{};
  }

  void common(double eps, int threads) const {
    require(threads >= 1, "wanted at least one thread");
    require(eps >= 0, "wanted eps >= 0");
  }

 private:
  const char* name_;
};

template <size_t kRank, size_t... kIndex>
bool sizes_are(const Tensor<kRank>& tensor, const std::array<int64_t, kRank>& sizes,
               std::index_sequence<kIndex...>) {
  return ((tensor.size[kIndex] == sizes[kIndex]) && ...);
}

template <size_t kRank>
bool sizes_are(const Tensor<kRank>& tensor, const std::array<int64_t, kRank>& sizes) {
  return sizes_are<kRank>(tensor, sizes, std::make_index_sequence<kRank>{});
}

template <typename Args>
void run(void (*op)(const Args&), const Args& args) {
  const py::gil_scoped_release released;
  op(args);
}

void call_similarity(const std::string& dtype, const Given<3>& frames, const Given<3>& queries,
                     const Given<3>& out, double eps, int threads) {
  const Op op("similarity");
  SimilarityArgs args{op.dtype(dtype),
                      op.tensor("frames", frames),
                      op.tensor("queries", queries),
                      op.tensor("out", out),
                      eps,
                      threads};
  op.common(eps, threads);
  op.require(
      args.frames.size[0] == args.queries.size[0] && args.frames.size[2] == args.queries.size[2] &&
          sizes_are(args.out, {args.frames.size[0], args.queries.size[1], args.frames.size[1]}),
      "wanted frames [B, N, D], queries [B, Q, D] and out [B, Q, N]");
  run(similarity, args);
}

void call_similarity_backward(const std::string& dtype, const Given<3>& grad,
                              const Given<3>& frames, const Given<3>& queries,
                              const Maybe<3>& grad_frames, const Maybe<3>& grad_queries, double eps,
                              int threads) {
  const Op op("similarity_backward");
  SimilarityBackwardArgs args{op.dtype(dtype),
                              op.tensor("grad", grad),
                              op.tensor("frames", frames),
                              op.tensor("queries", queries),
                              op.tensor("grad_frames", grad_frames),
                              op.tensor("grad_queries", grad_queries),
                              eps,
                              threads};
  op.common(eps, threads);
  op.require(
      args.frames.size[0] == args.queries.size[0] && args.frames.size[2] == args.queries.size[2] &&
          sizes_are(args.grad, {args.frames.size[0], args.queries.size[1], args.frames.size[1]}) &&
          (!args.grad_frames || args.grad_frames.size == args.frames.size) &&
          (!args.grad_queries || args.grad_queries.size == args.queries.size),
      "wanted frames [B, N, D], queries [B, Q, D], grad [B, Q, N] and gradients like them");
  run(similarity_backward, args);
}

void call_select_keyframes(const std::string& dtype, const Given<3>& frames, const Given<3>& scores,
                           const Maybe<1>& lengths, const Given<3>& indices, const Given<2>& count,
                           double tau, std::optional<double> min_score, bool fill, double eps,
                           int threads) {
  const Op op("select_keyframes");
  SelectArgs args{op.dtype(dtype),
                  op.tensor("frames", frames),
                  op.tensor("scores", scores),
                  op.tensor("lengths", lengths),
                  op.tensor("indices", indices),
                  op.tensor("count", count),
                  tau,
                  min_score.has_value(),
                  min_score.value_or(0),
                  fill,
                  eps,
                  threads};
  op.common(eps, threads);
  op.require(args.frames.size[0] == args.scores.size[0] &&
                 args.frames.size[1] == args.scores.size[2] &&
                 (!args.lengths || args.lengths.size[0] == args.frames.size[0]) &&
                 args.indices.size[0] == args.scores.size[0] &&
                 args.indices.size[1] == args.scores.size[1] &&
                 sizes_are(args.count, {args.scores.size[0], args.scores.size[1]}),
             "wanted frames [B, N, D], scores [B, Q, N], lengths [B], indices [B, Q, K] and "
             "count [B, Q]");
  run(select_keyframes, args);
}

void call_fill_keyframes(const Given<2>& mask, const Given<2>& out, int64_t k) {
  const Op op("fill_keyframes");
  FillArgs args{op.tensor("mask", mask), op.tensor("out", out), k};
  op.require(args.mask.size == args.out.size, "wanted mask and out of one size");
  op.require(k >= 0, "wanted k >= 0");
  run(fill_keyframes, args);
}

void call_reference_frames(const Given<2>& indices, const Given<2>& out,
                           const std::string& policy) {
  const Op op("reference_frames");
  op.require(policy == "preceding" || policy == "nearest" || policy == "released",
             "wanted policy preceding, nearest or released");
  ReferenceFramesArgs args{op.tensor("indices", indices), op.tensor("out", out),
                           policy == "preceding" ? ReferencePolicy::kPreceding
                           : policy == "nearest" ? ReferencePolicy::kNearest
                                                 : ReferencePolicy::kReleased};
  op.require(args.indices.size[0] == args.out.size[0], "wanted as many rows of indices as of out");
  run(reference_frames, args);
}

PoolInputs pool_inputs(const Op& op, const std::string& dtype, const Given<4>& patches,
                       const Given<3>& queries, const Given<4>& references,
                       const Given<3>& assignment, double alpha, double lam, double eps,
                       int threads) {
  PoolInputs in{op.dtype(dtype),
                op.tensor("patches", patches),
                op.tensor("queries", queries),
                op.tensor("references", references),
                op.tensor("assignment", assignment),
                alpha,
                lam,
                eps,
                threads};
  op.common(eps, threads);
  const auto& x = in.patches.size;
  op.require(in.queries.size[0] == x[0] && in.queries.size[2] == x[3] &&
                 sizes_are(in.references, {x[0], in.references.size[1], x[2], x[3]}) &&
                 sizes_are(in.assignment, {x[0], in.queries.size[1], x[1]}),
             "wanted patches [B, N, M, C], queries [B, Q, C], references [B, R, M, C] and "
             "assignment [B, Q, N]");
  return in;
}

void call_differential_pool(const std::string& dtype, const Given<4>& patches,
                            const Given<3>& queries, const Given<4>& references,
                            const Given<3>& assignment, double alpha, double lam,
                            const Given<4>& tokens, const Maybe<4>& weights, double eps,
                            int threads) {
  const Op op("differential_pool");
  PoolArgs args{
      pool_inputs(op, dtype, patches, queries, references, assignment, alpha, lam, eps, threads),
      op.tensor("tokens", tokens), op.tensor("weights", weights)};
  const auto& x = args.in.patches.size;
  const int64_t q = args.in.queries.size[1];
  op.require(sizes_are(args.tokens, {x[0], q, x[1], x[3]}) &&
                 (!args.weights || sizes_are(args.weights, {x[0], q, x[1], x[2]})),
             "wanted tokens [B, Q, N, C] and weights [B, Q, N, M]");
  run(differential_pool, args);
}

std::pair<double, double> call_differential_pool_backward(
    const std::string& dtype, const Given<4>& patches, const Given<3>& queries,
    const Given<4>& references, const Given<3>& assignment, double alpha, double lam,
    const Given<4>& grad_tokens, const Maybe<4>& grad_weights, const Maybe<4>& grad_patches,
    const Maybe<3>& grad_queries, const Maybe<4>& grad_references, double eps, int threads) {
  const Op op("differential_pool_backward");
  double grad_alpha = 0, grad_lam = 0;
  PoolBackwardArgs args{
      pool_inputs(op, dtype, patches, queries, references, assignment, alpha, lam, eps, threads),
      op.tensor("grad_tokens", grad_tokens),
      op.tensor("grad_weights", grad_weights),
      op.tensor("grad_patches", grad_patches),
      op.tensor("grad_queries", grad_queries),
      op.tensor("grad_references", grad_references),
      &grad_alpha,
      &grad_lam};
  const auto& x = args.in.patches.size;
  const int64_t q = args.in.queries.size[1];
  op.require(sizes_are(args.grad_tokens, {x[0], q, x[1], x[3]}) &&
                 (!args.grad_weights || sizes_are(args.grad_weights, {x[0], q, x[1], x[2]})) &&
                 (!args.grad_patches || args.grad_patches.size == x) &&
                 (!args.grad_queries || args.grad_queries.size == args.in.queries.size) &&
                 (!args.grad_references || args.grad_references.size == args.in.references.size),
             "wanted grad_tokens [B, Q, N, C], grad_weights [B, Q, N, M] and gradients like the "
             "inputs");
  run(differential_pool_backward, args);
  return {grad_alpha, grad_lam};
}

void call_normalise(const std::string& dtype, const Given<2>& rows, const Maybe<1>& norms,
                    double eps, int threads) {
  const Op op("normalise");
  NormaliseArgs args{op.dtype(dtype), op.tensor("rows", rows), op.tensor("norms", norms), eps,
                     threads};
  op.common(eps, threads);
  op.require(!args.norms || args.norms.size[0] == args.rows.size[0],
             "wanted rows [n, P] and norms [n]");
  run(normalise, args);
}

void call_mapped_cosines(const std::string& dtype, const Given<3>& y, const Given<3>& units,
                         const Given<1>& rows, const Given<2>& out, double eps, int threads) {
  const Op op("mapped_cosines");
  MappedCosinesArgs args{op.dtype(dtype),
                         op.tensor("y", y),
                         op.tensor("units", units),
                         op.tensor("rows", rows),
                         op.tensor("out", out),
                         eps,
                         threads};
  op.common(eps, threads);
  op.require((args.units.size[1] == args.y.size[1] || args.units.size[1] == 1) &&
                 args.units.size[2] == args.y.size[2] && args.rows.size[0] == args.y.size[0] &&
                 sizes_are(args.out, {args.y.size[0], args.y.size[1]}),
             "wanted y [G, n, P], units [R, n or 1, P], rows [G] and out [G, n]");
  for (int64_t i = 0; i < args.rows.size[0]; ++i) {
    const int64_t row = *args.rows.at<const int64_t>(i);
    op.require(row >= -1 && row < args.units.size[0], "wanted rows in -1..R-1");
  }
  run(mapped_cosines, args);
}

std::pair<double, double> call_mapped_backward(const std::string& dtype, const Given<3>& y_query,
                                               const Maybe<3>& y_key, const Given<2>& units,
                                               const std::vector<Maybe<2>>& keys,
                                               const Maybe<3>& itself, const Maybe<2>& itself_norms,
                                               const Given<3>& grad, const Given<3>& query_scale,
                                               const Given<3>& query_own, const Given<3>& key_scale,
                                               const Given<3>& key_own, double alpha, double lam,
                                               double eps, int threads) {
  const Op op("mapped_backward");
  double grad_alpha = 0, grad_lam = 0;
  MappedBackwardArgs args{op.dtype(dtype),
                          op.tensor("y_query", y_query),
                          op.tensor("y_key", y_key),
                          op.tensor("units", units),
                          {},
                          op.tensor("itself", itself),
                          op.tensor("itself_norms", itself_norms),
                          op.tensor("grad", grad),
                          op.tensor("query_scale", query_scale),
                          op.tensor("query_own", query_own),
                          op.tensor("key_scale", key_scale),
                          op.tensor("key_own", key_own),
                          alpha,
                          lam,
                          eps,
                          threads,
                          &grad_alpha,
                          &grad_lam};
  op.common(eps, threads);
  const auto& y = args.y_query.size;
  const int64_t q = args.units.size[0];
  const std::array<int64_t, 3> parts{q, y[0], y[1]};
  op.require(static_cast<int64_t>(keys.size()) == q * y[0] && args.units.size[1] == y[2] &&
                 (!args.y_key || args.y_key.size == y) && (!args.itself || args.itself.size == y) &&
                 (!args.itself || sizes_are(args.itself_norms, {y[0], y[1]})) &&
                 args.grad.size == parts && args.query_scale.size == parts &&
                 args.query_own.size == parts && args.key_scale.size == parts &&
                 args.key_own.size == parts,
             "wanted y_query, y_key and itself [F, M, P], units [Q, P], keys [Q * F], the others "
             "[Q, F, M]");
  for (const Maybe<2>& key : keys) {
    args.keys.push_back(op.tensor("keys", key));
    op.require(!args.keys.back() || (args.y_key && sizes_are(args.keys.back(), {y[1], y[2]})),
               "wanted y_key, and keys [M, P]");
  }
  run(mapped_backward, args);
  return {grad_alpha, grad_lam};
}

void call_assigned_sum(const std::string& dtype, const Given<3>& patches,
                       const Given<2>& assignment, int64_t row, const Given<3>& scale,
                       const Given<2>& out, int threads) {
  const Op op("assigned_sum");
  AssignedSumArgs args{op.dtype(dtype),
                       op.tensor("patches", patches),
                       op.tensor("assignment", assignment),
                       row,
                       op.tensor("scale", scale),
                       op.tensor("out", out),
                       threads};
  op.common(0, threads);
  const auto& x = args.patches.size;
  op.require(sizes_are(args.assignment, {args.scale.size[0], x[0]}) &&
                 sizes_are(args.scale, {args.scale.size[0], x[0], x[1]}) &&
                 sizes_are(args.out, {x[1], x[2]}),
             "wanted patches [N, M, C], assignment [Q, N], scale [Q, N, M] and out [M, C]");
  run(assigned_sum, args);
}

void call_pool_by_cosines(const std::string& dtype, const Given<3>& patches,
                          const Given<3>& cos_query, const Given<3>& cos_key,
                          const Given<3>& tokens, double alpha, double lam, int threads) {
  const Op op("pool_by_cosines");
  PoolByCosinesArgs args{op.dtype(dtype),
                         op.tensor("patches", patches),
                         op.tensor("cos_query", cos_query),
                         op.tensor("cos_key", cos_key),
                         op.tensor("tokens", tokens),
                         alpha,
                         lam,
                         threads};
  op.common(0, threads);
  const auto& x = args.patches.size;
  const int64_t q = args.tokens.size[0];
  op.require(sizes_are(args.tokens, {q, x[0], x[2]}) &&
                 sizes_are(args.cos_query, {q, x[0], x[1]}) &&
                 sizes_are(args.cos_key, {q, x[0], x[1]}),
             "wanted patches [N, M, C], cosines [Q, N, M] and tokens [Q, N, C]");
  run(pool_by_cosines, args);
}

void call_bf16_cosines(const Given<3>& patches, const Given<3>& references,
                       const Given<2>& assignment, const Given<2>& units, const Given<2>& w_iq,
                       const Given<1>& b_iq, const Given<2>& w_ik, const Given<1>& b_ik,
                       const Given<2>& w_k, const Given<1>& b_k, const Given<3>& cos_query,
                       const Given<3>& cos_key, double eps, int threads) {
  const Op op("bf16_cosines");
  Bf16CosinesArgs args{op.tensor("patches", patches),
                       op.tensor("references", references),
                       op.tensor("assignment", assignment),
                       op.tensor("units", units),
                       op.tensor("w_iq", w_iq),
                       op.tensor("b_iq", b_iq),
                       op.tensor("w_ik", w_ik),
                       op.tensor("b_ik", b_ik),
                       op.tensor("w_k", w_k),
                       op.tensor("b_k", b_k),
                       op.tensor("cos_query", cos_query),
                       op.tensor("cos_key", cos_key),
                       eps,
                       threads};
  op.common(eps, threads);
  op.require(has_bf16_cosines(), "this CPU has no bf16 dot products");
  const auto& x = args.patches.size;
  const int64_t q = args.assignment.size[0], p = args.units.size[1];
  op.require(sizes_are(args.references, {args.references.size[0], x[1], x[2]}) &&
                 sizes_are(args.assignment, {q, x[0]}) && args.units.size[0] == q &&
                 sizes_are(args.w_iq, {p, x[2]}) && sizes_are(args.w_ik, {p, x[2]}) &&
                 sizes_are(args.w_k, {p, x[2]}) && args.b_iq.size[0] == p &&
                 args.b_ik.size[0] == p && args.b_k.size[0] == p &&
                 sizes_are(args.cos_query, {q, x[0], x[1]}) &&
                 sizes_are(args.cos_key, {q, x[0], x[1]}),
             "wanted patches [N, M, C], references [R, M, C], assignment [Q, N], units [Q, P], "
             "maps [P, C] and [P], cosines [Q, N, M]");
  for (int64_t i = 0; i < q; ++i) {
    for (int64_t n = 0; n < x[0]; ++n) {
      const int64_t row = *args.assignment.at<const int64_t>(i, n);
      op.require(row >= -2 && row < args.references.size[0], "wanted assignment in -2..R-1");
    }
  }
  run(bf16_cosines, args);
}

uint64_t call_stream_read(uintptr_t address, int64_t bytes, int threads) {
  const Op op("stream_read");
  op.common(0, threads);
  op.require(address != 0 && bytes >= 0, "wanted an address and a number of bytes");
  const py::gil_scoped_release released;
  return stream_read(reinterpret_cast<const void*>(address), bytes, threads);
}

}  // namespace
}  // namespace vilamp

PYBIND11_MODULE(_cpu, m) {
  using namespace vilamp;
  using py::arg;
  m.doc() =
      "C++ kernels on the CPU. Works on raw addresses: call it through vilamp_kernels. A tensor is "
      "(address, sizes, strides in elements); its last stride is 1. What is None is not wanted.";
  m.attr("compiler") = "compiled by " VILAMP_COMPILER;
  m.def("instruction_set", &instruction_set,
        "serial, avx2, avx512 or avx512_bf16: what this process uses.");
  m.def("instruction_sets", &instruction_sets, "Those that this CPU and this build have.");
  m.def("use_instruction_set", &use_instruction_set, arg("name"),
        "From the next call on, in all threads. For tests and benchmarks.");
  m.def(
      "use_openmp", [](uintptr_t address) { use_openmp(reinterpret_cast<void*>(address)); },
      arg("address"), "Address of GOMP_parallel in the OpenMP library that torch uses, or 0.");
  m.def("similarity", &call_similarity, py::kw_only(), arg("dtype"), arg("frames"), arg("queries"),
        arg("out"), arg("eps"), arg("threads"));
  m.def("similarity_backward", &call_similarity_backward, py::kw_only(), arg("dtype"), arg("grad"),
        arg("frames"), arg("queries"), arg("grad_frames"), arg("grad_queries"), arg("eps"),
        arg("threads"));
  m.def("select_keyframes", &call_select_keyframes, py::kw_only(), arg("dtype"), arg("frames"),
        arg("scores"), arg("lengths"), arg("indices"), arg("count"), arg("tau"), arg("min_score"),
        arg("fill"), arg("eps"), arg("threads"));
  m.def("fill_keyframes", &call_fill_keyframes, py::kw_only(), arg("mask"), arg("out"), arg("k"));
  m.def("reference_frames", &call_reference_frames, py::kw_only(), arg("indices"), arg("out"),
        arg("policy"));
  m.def("differential_pool", &call_differential_pool, py::kw_only(), arg("dtype"), arg("patches"),
        arg("queries"), arg("references"), arg("assignment"), arg("alpha"), arg("lam"),
        arg("tokens"), arg("weights"), arg("eps"), arg("threads"));
  m.def("differential_pool_backward", &call_differential_pool_backward, py::kw_only(), arg("dtype"),
        arg("patches"), arg("queries"), arg("references"), arg("assignment"), arg("alpha"),
        arg("lam"), arg("grad_tokens"), arg("grad_weights"), arg("grad_patches"),
        arg("grad_queries"), arg("grad_references"), arg("eps"), arg("threads"),
        "Returns the gradients of alpha and lam.");
  m.def("normalise", &call_normalise, py::kw_only(), arg("dtype"), arg("rows"), arg("norms"),
        arg("eps"), arg("threads"));
  m.def("mapped_backward", &call_mapped_backward, py::kw_only(), arg("dtype"), arg("y_query"),
        arg("y_key"), arg("units"), arg("keys"), arg("itself"), arg("itself_norms"), arg("grad"),
        arg("query_scale"), arg("query_own"), arg("key_scale"), arg("key_own"), arg("alpha"),
        arg("lam"), arg("eps"), arg("threads"), "Returns the gradients of alpha and lam.");
  m.def("assigned_sum", &call_assigned_sum, py::kw_only(), arg("dtype"), arg("patches"),
        arg("assignment"), arg("row"), arg("scale"), arg("out"), arg("threads"));
  m.def("mapped_cosines", &call_mapped_cosines, py::kw_only(), arg("dtype"), arg("y"), arg("units"),
        arg("rows"), arg("out"), arg("eps"), arg("threads"));
  m.def("pool_by_cosines", &call_pool_by_cosines, py::kw_only(), arg("dtype"), arg("patches"),
        arg("cos_query"), arg("cos_key"), arg("tokens"), arg("alpha"), arg("lam"), arg("threads"));
  m.def("has_bf16_cosines", &has_bf16_cosines);
  m.def("bf16_cosines", &call_bf16_cosines, py::kw_only(), arg("patches"), arg("references"),
        arg("assignment"), arg("units"), arg("w_iq"), arg("b_iq"), arg("w_ik"), arg("b_ik"),
        arg("w_k"), arg("b_k"), arg("cos_query"), arg("cos_key"), arg("eps"), arg("threads"));
  m.def("stream_read", &call_stream_read, py::kw_only(), arg("address"), arg("bytes"),
        arg("threads"));
}
