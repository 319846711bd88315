// Scores the catalogue and keeps the best: an exact blocked matrix product with the top-k fused into it. In int8 the
// product only tells which items cannot be among the best; the others are scored in float32, so the answer is the same.
//
//   cosine: ⟨u, E_c/max(‖E_c‖, eps)⟩ / temperature     dot: ⟨u, E_c⟩      with u the engine's normalised user vector
// Order: higher score first, ties by lower row. Row 0 (unknown) is never ranked.
// Threads: Ranker is immutable and shared; a Scratch belongs to one thread.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "core/recommendation.h"
#include "inference/model.h"
#include "inference/number_types.h"

namespace freshet {

struct RankRequest {
  const float* user_vector = nullptr;  // [dim]
  std::span<const ItemRow> excluded;   // rows not to rank; any order, repeats and row 0 allowed
  std::span<ScoredItem> top;  // receives min(k, what is left) items; its size is k, and may differ between requests
  size_t found = 0;           // how many were written
};

class Ranker {
 public:
  class Scratch {
   public:
    ~Scratch();

   private:
    friend class Ranker;
    Scratch();
    struct Parts;
    std::unique_ptr<Parts> parts_;
  };

  // kInt8 is for CPUs with HasInt8Products() and dim <= 512; the ranker is one of float32 elsewhere, and where
  // `precision` is not given and int8 would not be faster. `model` outlives the ranker.
  static Result<std::unique_ptr<const Ranker>> Make(const Model& model,
                                                    std::optional<NumberType> precision = std::nullopt);
  ~Ranker();

  NumberType precision() const;

  // Sized for `max_requests` at a time; more are split.
  std::unique_ptr<Scratch> MakeScratch(size_t max_requests) const;

  void TopK(std::span<RankRequest> requests, Scratch& scratch) const;

  // Scores of all rows for each user vector in float32, [users, items], row-major, row 0 included; for evaluation, and
  // slow in int8.
  void ScoreAll(std::span<const float* const> user_vectors, float* scores, Scratch& scratch) const;

  // Scores of some rows in float32, as TopK() gives them up to float tolerance.
  void Score(const float* user_vector, std::span<const ItemRow> rows, float* scores) const;

 private:
  struct Parts;
  explicit Ranker(std::unique_ptr<const Parts> parts);
  std::unique_ptr<const Parts> parts_;
};

// The same by the book: scores in a loop, then a full sort. For tests.
void TopKPlain(const Model& model, std::span<RankRequest> requests);

}  // namespace freshet
