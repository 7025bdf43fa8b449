// In which order candidates are visited: NaN first, then by score, then the lower number.
#pragma once

#include <cstdint>
#include <cstring>
#include <vector>

namespace vilamp {

// An unsigned number that is smaller the earlier a score comes.
inline uint32_t score_key(float score) {
  if (score != score) return 0;
  // -0 and 0 are equal scores.
  score += 0.0f;
  uint32_t bits;
  std::memcpy(&bits, &score, sizeof(bits));
  // Ascending for all numbers, then turned round; only the key of a NaN could be 0 as well.
  return ~(bits & 0x80000000u ? ~bits : bits | 0x80000000u);
}

inline uint64_t score_key(double score) {
  if (score != score) return 0;
  score += 0.0;
  uint64_t bits;
  std::memcpy(&bits, &score, sizeof(bits));
  const uint64_t sign = uint64_t{1} << 63;
  return ~(bits & sign ? ~bits : bits | sign);
}

// Frames [0, n) in that order, without those whose score is below `min_score`. A radix sort: it is
// stable, so equal scores stay in the order of their frames, and takes the same time for any input.
template <typename A>
std::vector<int64_t> score_order(const A* scores, int64_t n, bool has_min_score, A min_score) {
  using Key = decltype(score_key(A()));
  constexpr int kBits = 11;
  constexpr size_t kBuckets = size_t{1} << kBits;
  struct Entry {
    Key key;
    int64_t frame;
  };
  std::vector<Entry> entries, sorted;
  entries.reserve(n);
  for (int64_t i = 0; i < n; ++i) {
    if (!(has_min_score && scores[i] < min_score)) entries.push_back({score_key(scores[i]), i});
  }
  sorted.resize(entries.size());
  for (size_t shift = 0; shift < 8 * sizeof(Key); shift += kBits) {
    size_t start[kBuckets + 1] = {};
    auto digit = [&](const Entry& entry) { return (entry.key >> shift) & (kBuckets - 1); };
    for (const Entry& entry : entries) ++start[digit(entry) + 1];
    for (size_t i = 0; i < kBuckets; ++i) start[i + 1] += start[i];
    for (const Entry& entry : entries) sorted[start[digit(entry)]++] = entry;
    entries.swap(sorted);
  }
  std::vector<int64_t> order;
  order.reserve(entries.size());
  for (const Entry& entry : entries) order.push_back(entry.frame);
  return order;
}

}  // namespace vilamp
