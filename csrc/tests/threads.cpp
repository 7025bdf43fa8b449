// Calls each kernel with several threads, for ThreadSanitizer to watch: `make sanitize-threads`.
//
// A kernel is right when ThreadSanitizer is silent and one thread gives the same bits as four.
#include <cstdio>
#include <cstring>
#include <functional>
#include <vector>

#include "vilamp/instruction_set.h"
#include "vilamp/mapped.h"
#include "vilamp/pooling.h"
#include "vilamp/selection.h"
#include "vilamp/similarity.h"

namespace {

using vilamp::DType;
using vilamp::Tensor;

// Numbers between -1 and 1 that are the same on every machine.
float number(uint32_t& state) {
  state = state * 1664525u + 1013904223u;
  return static_cast<float>(state >> 8) / (1 << 23) - 1.0f;
}

void draw(std::vector<float>& out) {
  uint32_t state = 12345;
  for (float& value : out) value = number(state);
}
void draw(std::vector<vilamp::BFloat16>& out) {
  uint32_t state = 12345;
  for (vilamp::BFloat16& value : out) vilamp::from_acc(number(state), &value);
}
void draw(std::vector<int64_t>&) {}

// A contiguous tensor and its memory.
template <typename T, size_t kRank>
struct Dense {
  explicit Dense(std::array<int64_t, kRank> size) {
    view.size = size;
    int64_t step = 1;
    for (size_t i = kRank; i-- > 0;) {
      view.stride[i] = step;
      step *= size[i];
    }
    memory.resize(step);
    draw(memory);
    view.data = memory.data();
  }
  std::vector<T> memory;
  Tensor<kRank> view;
};

// The bytes that a call wrote.
using Bytes = std::vector<unsigned char>;

template <typename T>
void append(Bytes& bytes, const std::vector<T>& values) {
  const auto* first = reinterpret_cast<const unsigned char*>(values.data());
  bytes.insert(bytes.end(), first, first + values.size() * sizeof(T));
}

template <typename... Tensors>
Bytes written(const Tensors&... tensors) {
  Bytes bytes;
  (append(bytes, tensors.memory), ...);
  return bytes;
}

bool same(const char* op, const std::function<Bytes(int threads)>& run) {
  const bool equal = run(1) == run(4);
  std::printf("%s, %s: %s\n", vilamp::instruction_set().c_str(), op,
              equal ? "the same for 1 and 4 threads" : "DIFFERS");
  return equal;
}

constexpr double kEps = 1e-8;
// Large enough for many chunks of work.
constexpr int64_t kVideos = 2, kFrames = 500, kQuestions = 3, kWidth = 512;

Bytes similarity(int threads) {
  Dense<float, 3> frames({kVideos, kFrames, kWidth}), queries({kVideos, kQuestions, kWidth});
  Dense<float, 3> out({kVideos, kQuestions, kFrames});
  vilamp::similarity({DType::kFloat32, frames.view, queries.view, out.view, kEps, threads});
  return written(out);
}

Bytes similarity_backward(int threads) {
  Dense<float, 3> grad({kVideos, kQuestions, kFrames});
  Dense<float, 3> frames({kVideos, kFrames, kWidth}), queries({kVideos, kQuestions, kWidth});
  Dense<float, 3> grad_frames(frames.view.size), grad_queries(queries.view.size);
  vilamp::similarity_backward({DType::kFloat32, grad.view, frames.view, queries.view,
                               grad_frames.view, grad_queries.view, kEps, threads});
  return written(grad_frames, grad_queries);
}

Bytes select_keyframes(int threads) {
  Dense<float, 3> frames({kVideos, 2 * kFrames, kWidth});
  Dense<float, 3> scores({kVideos, kQuestions, 2 * kFrames});
  Dense<int64_t, 3> indices({kVideos, kQuestions, 40});
  Dense<int64_t, 2> count({kVideos, kQuestions});
  vilamp::select_keyframes({DType::kFloat32,
                            frames.view,
                            scores.view,
                            {},
                            indices.view,
                            count.view,
                            0.05,
                            true,
                            0.0,
                            true,
                            kEps,
                            threads});
  return written(indices, count);
}

// Pooling of 70 frames: more than the 64 chunks of the backward, so that a chunk has several.
struct Pool {
  Dense<float, 4> patches{{2, 70, 20, 64}};
  Dense<float, 3> queries{{2, 3, 64}};
  Dense<float, 4> references{{2, 4, 20, 64}};
  Dense<int64_t, 3> assignment{{2, 3, 70}};

  vilamp::PoolInputs inputs(int threads) {
    // All of -2..3.
    for (size_t i = 0; i < assignment.memory.size(); ++i)
      assignment.memory[i] = static_cast<int64_t>(i % 6) - 2;
    return {DType::kFloat32, patches.view, queries.view, references.view,
            assignment.view, 0.1,          1.0,          kEps,
            threads};
  }
};

Bytes differential_pool(int threads) {
  Pool pool;
  Dense<float, 4> tokens({2, 3, 70, 64}), weights({2, 3, 70, 20});
  vilamp::differential_pool({pool.inputs(threads), tokens.view, weights.view});
  return written(tokens, weights);
}

Bytes differential_pool_backward(int threads) {
  Pool pool;
  Dense<float, 4> grad_tokens({2, 3, 70, 64}), grad_weights({2, 3, 70, 20});
  Dense<float, 4> grad_patches(pool.patches.view.size), grad_bank(pool.references.view.size);
  Dense<float, 3> grad_queries(pool.queries.view.size);
  double scalars[2] = {0, 0};
  vilamp::differential_pool_backward({pool.inputs(threads), grad_tokens.view, grad_weights.view,
                                      grad_patches.view, grad_queries.view, grad_bank.view,
                                      &scalars[0], &scalars[1]});
  Bytes bytes = written(grad_patches, grad_queries, grad_bank);
  append(bytes, std::vector<double>(scalars, scalars + 2));
  return bytes;
}

Bytes mapped_cosines(int threads) {
  Dense<float, 3> y({9, 40, 64}), units({3, 40, 64});
  Dense<int64_t, 1> rows({9});
  for (int64_t i = 0; i < 9; ++i) rows.memory[i] = i % 4 - 1;
  Dense<float, 2> out({9, 40});
  vilamp::mapped_cosines({DType::kFloat32, y.view, units.view, rows.view, out.view, kEps, threads});
  return written(out);
}

Bytes normalise(int threads) {
  Dense<float, 2> rows({200, 64});
  Dense<float, 1> norms({200});
  vilamp::normalise({DType::kFloat32, rows.view, norms.view, kEps, threads});
  return written(rows, norms);
}

Bytes mapped_backward(int threads) {
  // Frames 0 and 2 have keys of others for two questions, frame 1 itself for the third.
  constexpr int64_t kF = 3, kM = 300, kP = 400, kQ = 3;
  Dense<float, 3> y_query({kF, kM, kP}), y_key({kF, kM, kP}), itself({kF, kM, kP});
  Dense<float, 2> units({kQ, kP}), other({kM, kP}), norms({kF, kM});
  Dense<float, 3> grad({kQ, kF, kM}), query_scale({kQ, kF, kM}), query_own({kQ, kF, kM});
  Dense<float, 3> key_scale({kQ, kF, kM}), key_own({kQ, kF, kM});
  std::vector<Tensor<2>> keys(kQ * kF);
  keys[0] = keys[kF + 2] = other.view;
  keys[2 * kF + 1] = other.view;
  keys[2 * kF + 1].data = itself.view.at<float>(1);
  double scalars[2] = {0, 0};
  vilamp::mapped_backward({DType::kFloat32, y_query.view, y_key.view, units.view, keys, itself.view,
                           norms.view, grad.view, query_scale.view, query_own.view, key_scale.view,
                           key_own.view, 0.1, 1.0, kEps, threads, &scalars[0], &scalars[1]});
  Bytes bytes = written(y_query, y_key, itself, grad, query_scale, query_own, key_scale, key_own);
  append(bytes, std::vector<double>(scalars, scalars + 2));
  return bytes;
}

Bytes assigned_sum(int threads) {
  Dense<float, 3> patches({40, 100, 64}), scale({3, 40, 100});
  Dense<int64_t, 2> assignment({3, 40});
  for (int64_t i = 0; i < 120; ++i) assignment.memory[i] = i % 4 - 1;
  Dense<float, 2> out({100, 64});
  vilamp::assigned_sum(
      {DType::kFloat32, patches.view, assignment.view, 1, scale.view, out.view, threads});
  return written(out);
}

Bytes pool_by_cosines(int threads) {
  Dense<float, 3> patches({40, 20, 64}), cos_query({3, 40, 20}), cos_key({3, 40, 20});
  Dense<float, 3> tokens({3, 40, 64});
  vilamp::pool_by_cosines({DType::kFloat32, patches.view, cos_query.view, cos_key.view, tokens.view,
                           0.1, 1.0, threads});
  return written(cos_query, tokens);
}

Bytes bf16_cosines(int threads) {
  using vilamp::BFloat16;
  Dense<BFloat16, 3> patches({12, 100, 64}), references({4, 100, 64});
  Dense<int64_t, 2> assignment({3, 12});
  for (int64_t i = 0; i < 36; ++i) assignment.memory[i] = i % 6 - 2;
  Dense<float, 2> units({3, 32});
  Dense<BFloat16, 2> w_iq({32, 64}), w_ik({32, 64}), w_k({32, 64});
  Dense<float, 1> bias({32});
  Dense<float, 3> cos_query({3, 12, 100}), cos_key({3, 12, 100});
  vilamp::bf16_cosines({patches.view, references.view, assignment.view, units.view, w_iq.view,
                        bias.view, w_ik.view, bias.view, w_k.view, bias.view, cos_query.view,
                        cos_key.view, kEps, threads});
  return written(cos_query, cos_key);
}

}  // namespace

int main() {
  bool good = true;
  for (const std::string& name : vilamp::instruction_sets()) {
    vilamp::use_instruction_set(name);
    good &= same("similarity", similarity);
    good &= same("similarity_backward", similarity_backward);
    good &= same("select_keyframes", select_keyframes);
    good &= same("differential_pool", differential_pool);
    good &= same("differential_pool_backward", differential_pool_backward);
    good &= same("normalise", normalise);
    good &= same("mapped_cosines", mapped_cosines);
    good &= same("mapped_backward", mapped_backward);
    good &= same("assigned_sum", assigned_sum);
    good &= same("pool_by_cosines", pool_by_cosines);
    if (vilamp::has_bf16_cosines()) good &= same("bf16_cosines", bf16_cosines);
  }
  return good ? 0 : 1;
}
