// The Python module vilamp_kernels._cpu: addresses, sizes and strides in, nothing of torch.
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <array>
#include <stdexcept>
#include <string>

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

void require(bool holds, const char* message) {
  if (!holds) throw std::invalid_argument(message);
}

DType dtype_of(const std::string& name) {
  if (name == "float32") return DType::kFloat32;
  if (name == "float64") return DType::kFloat64;
  if (name == "bfloat16") return DType::kBFloat16;
  if (name == "float16") return DType::kFloat16;
  throw std::invalid_argument(
      "similarity: wanted dtype float32, float64, bfloat16 or float16; given " + name);
}

using Shape3 = std::array<int64_t, 3>;
using Stride2 = std::array<int64_t, 2>;

int64_t elements(const Shape3& shape) { return shape[0] * shape[1] * shape[2]; }

void similarity(const std::string& dtype, uintptr_t frames, const Shape3& frames_shape,
                const Stride2& frames_stride, uintptr_t queries, const Shape3& queries_shape,
                const Stride2& queries_stride, uintptr_t out, double eps, int threads) {
  for (const int64_t size : frames_shape) require(size >= 0, "similarity: negative size");
  for (const int64_t size : queries_shape) require(size >= 0, "similarity: negative size");
  require(frames_shape[0] == queries_shape[0] && frames_shape[2] == queries_shape[2],
          "similarity: wanted frames [B, N, D] and queries [B, Q, D] with one B and D");
  require(threads >= 1, "similarity: wanted at least one thread");
  require(eps >= 0, "similarity: wanted eps >= 0");
  require(frames != 0 || elements(frames_shape) == 0, "similarity: frames has no address");
  require(queries != 0 || elements(queries_shape) == 0, "similarity: queries has no address");
  if (frames_shape[0] == 0 || frames_shape[1] == 0 || queries_shape[1] == 0) return;
  require(out != 0, "similarity: out has no address");

  SimilarityArgs args{};
  args.dtype = dtype_of(dtype);
  args.frames = reinterpret_cast<const void*>(frames);
  args.queries = reinterpret_cast<const void*>(queries);
  args.out = reinterpret_cast<void*>(out);
  args.batch = frames_shape[0];
  args.frames_count = frames_shape[1];
  args.queries_count = queries_shape[1];
  args.width = frames_shape[2];
  args.frames_stride_b = frames_stride[0];
  args.frames_stride_n = frames_stride[1];
  args.queries_stride_b = queries_stride[0];
  args.queries_stride_q = queries_stride[1];
  args.eps = eps;
  args.threads = threads;
  similarity_serial(args);
}

}  // namespace
}  // namespace vilamp

PYBIND11_MODULE(_cpu, m) {
  m.doc() = "C++ kernels on the CPU. Works on raw addresses: call it through vilamp_kernels.";
  m.attr("compiler") = "compiled by " VILAMP_COMPILER;
  m.def("similarity", &vilamp::similarity, py::kw_only(), py::arg("dtype"), py::arg("frames"),
        py::arg("frames_shape"), py::arg("frames_stride"), py::arg("queries"),
        py::arg("queries_shape"), py::arg("queries_stride"), py::arg("out"), py::arg("eps"),
        py::arg("threads"), py::call_guard<py::gil_scoped_release>(),
        "frames [B, N, D] and queries [B, Q, D] -> out [B, Q, N]; strides in elements, the last "
        "one is 1 and not given.");
}
