#include "even_fill.h"

#include <algorithm>

namespace vilamp {
namespace {

// A maximal run of frames that are not chosen.
struct Gap {
  int64_t start;
  int64_t length;
};

int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

std::vector<Gap> gaps_between(const std::vector<int64_t>& chosen, int64_t n) {
  std::vector<Gap> gaps;
  int64_t start = 0;
  for (size_t i = 0; i <= chosen.size(); ++i) {
    const int64_t end = i < chosen.size() ? chosen[i] : n;
    if (end > start) gaps.push_back({start, end - start});
    start = end + 1;
  }
  return gaps;
}

// The smallest distance whose spacing needs no more than `left` frames.
int64_t distance_for(const std::vector<Gap>& gaps, int64_t n, int64_t left) {
  int64_t low = 1, high = n;
  while (low < high) {
    const int64_t middle = low + (high - low) / 2;
    int64_t needed = 0;
    for (const Gap& gap : gaps) needed += ceil_div(gap.length, middle) - 1;
    if (needed <= left) {
      high = middle;
    } else {
      low = middle + 1;
    }
  }
  return low;
}

}  // namespace

std::vector<int64_t> even_fill(const std::vector<int64_t>& chosen, int64_t n, int64_t k) {
  int64_t left = k - static_cast<int64_t>(chosen.size());
  if (left <= 0 || n == 0) return chosen;
  const std::vector<Gap> gaps = gaps_between(chosen, n);
  const int64_t distance = distance_for(gaps, n, left);
  std::vector<int64_t> filled = chosen;
  std::vector<int64_t> counts, steps;
  for (const Gap& gap : gaps) {
    counts.push_back(ceil_div(gap.length, distance) - 1);
    steps.push_back(ceil_div(gap.length, counts.back() + 1));
    for (int64_t i = 1; i <= counts.back(); ++i) filled.push_back(gap.start + i * steps.back());
    left -= counts.back();
  }
  // What is left goes to the last free frames: last gap first, each gap from its end.
  for (size_t g = gaps.size(); g-- > 0 && left > 0;) {
    for (int64_t i = gaps[g].length; i-- > 0 && left > 0;) {
      if (i > 0 && i % steps[g] == 0 && i / steps[g] <= counts[g]) continue;
      filled.push_back(gaps[g].start + i);
      --left;
    }
  }
  std::sort(filled.begin(), filled.end());
  return filled;
}

}  // namespace vilamp
