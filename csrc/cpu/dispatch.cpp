// Which instruction set runs: asked of the CPU once, or said by VILAMP_KERNELS_CPU.
#include <algorithm>
#include <atomic>
#include <cstdlib>
#include <stdexcept>
#include <string>
#include <vector>

#include "kernels.h"
#include "vilamp/instruction_set.h"

namespace vilamp {
namespace {

#if defined(__x86_64__) || defined(__i386__)
// Every CPU with AVX2 and FMA has F16C, whose name older compilers do not know.
bool has_avx2() { return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"); }
bool has_avx512() {
  return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq");
}
bool has_avx512_bf16() { return has_avx512() && __builtin_cpu_supports("avx512bf16"); }
#else
bool has_avx2() { return false; }
bool has_avx512() { return false; }
bool has_avx512_bf16() { return false; }
#endif

// The best one first.
std::vector<const KernelTable*> tables() {
  std::vector<const KernelTable*> found;
  if (has_avx512_bf16() && avx512_table()) found.push_back(avx512_bf16_table());
  if (has_avx512()) found.push_back(avx512_table());
  if (has_avx2()) found.push_back(avx2_table());
  found.push_back(&kSerialTable);
  found.erase(std::remove(found.begin(), found.end(), nullptr), found.end());
  return found;
}

const KernelTable& named(const std::string& asked_by, const std::string& name) {
  std::string there;
  for (const KernelTable* table : tables()) {
    if (name == table->name) return *table;
    there += (there.empty() ? "" : ", ") + std::string(table->name);
  }
  throw std::invalid_argument(asked_by + ": wanted one of " + there + "; given " + name);
}

const KernelTable* first_choice() {
  const char* asked = std::getenv("VILAMP_KERNELS_CPU");
  return asked && *asked ? &named("VILAMP_KERNELS_CPU", asked) : tables().front();
}

std::atomic<const KernelTable*>& current() {
  static std::atomic<const KernelTable*> table{first_choice()};
  return table;
}

}  // namespace

const KernelTable& kernel_table() { return *current().load(std::memory_order_relaxed); }

std::string instruction_set() { return kernel_table().name; }

std::vector<std::string> instruction_sets() {
  std::vector<std::string> names;
  for (const KernelTable* table : tables()) names.push_back(table->name);
  return names;
}

void use_instruction_set(const std::string& name) {
  current() = &named("use_instruction_set", name);
}

}  // namespace vilamp
