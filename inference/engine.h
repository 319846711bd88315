// The incremental attention engine: banded HSTU (Zhai et al. 2024) and transformer blocks, both as docs/model-format.md
// states them, one row for each new event; and SASRec, of which nothing can be kept (inference/sasrec.h).
//
// Law: for every prefix of a user's events the result equals FullForward() over the whole prefix, to 1e-5 relative.
// Threads: Engine is immutable and shared; a Scratch belongs to one thread, and so does each KeyValueCache during a
// call.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "core/event.h"
#include "core/key_value_cache.h"
#include "inference/cached_rows.h"
#include "inference/model.h"

namespace freshet {

// One event of one user to take in.
struct StepRow {
  KeyValueCache* cache = nullptr;  // of the user, empty or of this engine; rows of one cache come in the user's order
  ModelToken token;
  float* user_vector =
      nullptr;  // [dim] receives the normalised output, where it is wanted; null: only the keys/values are
};

class Engine {
 public:
  // Memory and prepared primitives of one thread. Sized for `max_rows` rows at a time; more are split.
  class Scratch {
   public:
    ~Scratch();

   private:
    friend class Engine;
    struct Parts;
    explicit Scratch(std::unique_ptr<Parts> parts);
    std::unique_ptr<Parts> parts_;
  };

  // `model` outlives the engine.
  static Result<std::unique_ptr<const Engine>> Make(const Model& model,
                                                    CachePrecision precision = CachePrecision::kFp32);
  ~Engine();

  std::unique_ptr<Scratch> MakeScratch(size_t max_rows) const;

  // Takes in all rows, in order: keys/values are stored, `user_vector` is filled (cosine: x/‖x‖, dot: LN(x)).
  // REQUIRES: each cache is empty, or its `model` is cache_tag().
  void Step(std::span<const StepRow> rows, Scratch& scratch) const;

  // What the caches' `model` becomes: the model's tag and the precision as one.
  ModelTag cache_tag() const;

  // Bytes that one user's keys/values take once `events` were taken in.
  size_t CacheBytes(int64_t events) const;

 private:
  struct Parts;
  explicit Engine(std::unique_ptr<const Parts> parts);
  std::unique_ptr<const Parts> parts_;
};

// The same model by the book, over one user's whole sequence at once: three loops, no cache, no library. Returns the
// normalised outputs [tokens, dim]. For tests, `freshet model verify`, and reading. With a precision other than fp32
// keys and values are rounded as a cache of it rounds them.
std::vector<float> FullForward(const Model& model, std::span<const ModelToken> tokens,
                               CachePrecision precision = CachePrecision::kFp32);

// B(Δ) of docs/model-format.md: min(128, floor(ln(max(|Δ|, 1)) / 0.301)) in exact integer arithmetic. `delta_s`:
// seconds.
int TimeBucket(int64_t delta_s);

}  // namespace freshet
