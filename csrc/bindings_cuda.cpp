// The Python module vilamp_kernels._cuda: starts the kernels of csrc/cuda by name. The CUDA runtime
// is linked into it, so it can be imported where there is no driver.
#include <cuda_runtime_api.h>
#include <pybind11/pybind11.h>
#include <pybind11/stl.h>

#include <array>
#include <map>
#include <mutex>
#include <sstream>
#include <stdexcept>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#define VILAMP_EACH_DTYPE(X, name) X(name##_fp32) X(name##_bf16) X(name##_fp16)
#define VILAMP_KERNELS(X)                           \
  VILAMP_EACH_DTYPE(X, similarity_fwd_q1)           \
  VILAMP_EACH_DTYPE(X, similarity_fwd_q4)           \
  VILAMP_EACH_DTYPE(X, similarity_fwd_q16)          \
  VILAMP_EACH_DTYPE(X, select_keyframes_fwd)        \
  VILAMP_EACH_DTYPE(X, differential_pool_fwd_q1_j1) \
  VILAMP_EACH_DTYPE(X, differential_pool_fwd_q1_j2) \
  VILAMP_EACH_DTYPE(X, differential_pool_fwd_q1_j4) \
  VILAMP_EACH_DTYPE(X, differential_pool_fwd_q4_j1) \
  VILAMP_EACH_DTYPE(X, differential_pool_fwd_q4_j2) \
  X(differential_pool_fwd_q4_j4_fp32)               \
  X(differential_pool_combine_fp32)

// What nvcc makes of `__global__ void name(...)` on the side of the host has this name; only its
// address is used.
#define VILAMP_DECLARE(name) extern "C" void name();
VILAMP_KERNELS(VILAMP_DECLARE)

#define VILAMP_TEXT_OF(text) #text
#define VILAMP_TEXT(macro) VILAMP_TEXT_OF(macro)

namespace py = pybind11;

namespace vilamp {
namespace {

using Sizes = std::array<unsigned, 3>;
using Argument = std::variant<int64_t, double>;

const void* kernel_named(const std::string& name) {
#define VILAMP_ENTRY(name) {#name, reinterpret_cast<const void*>(&name)},
  static const std::map<std::string, const void*> kernels = {VILAMP_KERNELS(VILAMP_ENTRY)};
  const auto found = kernels.find(name);
  if (found == kernels.end()) throw std::invalid_argument("no CUDA kernel is named " + name);
  return found->second;
}

void check(cudaError_t error, const std::string& what) {
  if (error == cudaSuccess) return;
  cudaGetLastError();  // not to be reported again by whoever asks next
  throw std::runtime_error(what + ": " + cudaGetErrorString(error) + " (" +
                           cudaGetErrorName(error) + ")");
}

// Makes a device the current one for as long as it lives.
class OnDevice {
 public:
  OnDevice(int device, const std::string& what) {
    check(cudaGetDevice(&before_), what);
    changed_ = device != before_;
    if (changed_) check(cudaSetDevice(device), what + " on device " + std::to_string(device));
  }
  ~OnDevice() {
    if (changed_) cudaSetDevice(before_);
  }

 private:
  int before_ = 0;
  bool changed_ = false;
};

// More than 48 KB of dynamic shared memory has to be asked for, on each device (`device` is the
// current one). The limit only grows: another thread may be about to launch the kernel with more.
void allow_shared(const void* kernel, size_t shared, int device, const std::string& what) {
  if (shared <= 48 * 1024) return;
  static std::mutex mutex;
  static std::map<std::pair<const void*, int>, size_t> limits;
  const std::lock_guard<std::mutex> locked(mutex);
  size_t& limit = limits[{kernel, device}];
  if (shared <= limit) return;
  check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                             static_cast<int>(shared)),
        what + " with " + std::to_string(shared) + " bytes of shared memory");
  limit = shared;
}

void launch(const std::string& name, Sizes grid, Sizes block, size_t shared, uintptr_t stream,
            int device, const std::vector<Argument>& args, bool cooperative) {
  const void* kernel = kernel_named(name);
  // Every parameter of a kernel is 8 bytes, or a float.
  std::vector<int64_t> values(args.size());
  std::vector<void*> pointers(args.size());
  for (size_t i = 0; i < args.size(); ++i) {
    pointers[i] = &values[i];
    if (const int64_t* integer = std::get_if<int64_t>(&args[i])) {
      values[i] = *integer;
    } else {
      *static_cast<float*>(pointers[i]) = static_cast<float>(std::get<double>(args[i]));
    }
  }
  const dim3 blocks(grid[0], grid[1], grid[2]), threads(block[0], block[1], block[2]);
  const auto on_stream = reinterpret_cast<cudaStream_t>(stream);

  const py::gil_scoped_release released;
  const OnDevice current(device, name);
  allow_shared(kernel, shared, device, name);
  check(cooperative ? cudaLaunchCooperativeKernel(kernel, blocks, threads, pointers.data(), shared,
                                                  on_stream)
                    : cudaLaunchKernel(kernel, blocks, threads, pointers.data(), shared, on_stream),
        name);
}

int blocks_per_processor(const std::string& name, int threads, size_t shared, int device) {
  const void* kernel = kernel_named(name);
  const py::gil_scoped_release released;
  const OnDevice current(device, name);
  allow_shared(kernel, shared, device, name);
  int blocks = 0;
  check(cudaOccupancyMaxActiveBlocksPerMultiprocessor(&blocks, kernel, threads, shared), name);
  if (blocks == 0)
    throw std::runtime_error(name + ": not even one block of " + std::to_string(threads) +
                             " threads and " + std::to_string(shared) +
                             " bytes of shared memory fits the device");
  return blocks;
}

std::vector<std::string> kernels() {
#define VILAMP_NAME(name) #name,
  return {VILAMP_KERNELS(VILAMP_NAME)};
}

// sm_80+sm_90+compute_90 -> the three.
std::vector<std::string> architectures() {
  std::vector<std::string> found;
  std::istringstream names(VILAMP_TEXT(VILAMP_CUDA_BUILT_FOR));
  for (std::string name; std::getline(names, name, '+');) {
    while (!name.empty() && name.back() == ' ') name.pop_back();
    while (!name.empty() && name.front() == ' ') name.erase(name.begin());
    found.push_back(name);
  }
  return found;
}

std::pair<int, std::string> devices() {
  int count = 0;
  const cudaError_t error = cudaGetDeviceCount(&count);
  if (error == cudaSuccess) return {count, ""};
  cudaGetLastError();
  return {0, cudaGetErrorString(error)};
}

}  // namespace
}  // namespace vilamp

PYBIND11_MODULE(_cuda, m) {
  using namespace vilamp;
  m.doc() = "CUDA kernels of vilamp_kernels, by name.";
  m.def("launch", &launch, py::arg("kernel"), py::arg("grid"), py::arg("block"), py::kw_only(),
        py::arg("shared"), py::arg("stream"), py::arg("device"), py::arg("args"),
        py::arg("cooperative"),
        "Starts a kernel; RuntimeError with its name and CUDA's message if that fails.");
  m.def("blocks_per_processor", &blocks_per_processor, py::arg("kernel"), py::arg("threads"),
        py::arg("shared"), py::arg("device"),
        "How many blocks of a kernel fit one multiprocessor at the same time, at least 1.");
  m.def("kernels", &kernels, "The names of all kernels.");
  m.def("architectures", &architectures,
        "What the kernels were compiled to: machine code (sm_80) and PTX (compute_90).");
  m.def("devices", &devices, "The number of devices, and CUDA's reason where there are none.");
  m.attr("runtime") = CUDART_VERSION;
}
