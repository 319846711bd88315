// Events to tokens, tokens to a model's rows. Pure functions; the pipeline, `export` (and so the trainer) and
// `evaluate` all use these.
#pragma once

#include "core/event.h"
#include "core/vocabulary.h"

namespace freshet {

// What state keeps of an event.
Token MakeToken(const Event& event);

// Seconds of an event time, floored: -1 ms is second -1.
int64_t WholeSeconds(int64_t time_ms);

// A token in a model's terms; ids outside the vocabulary become row 0.
ModelToken ToModelToken(const Token& token, const Vocabulary& vocabulary);

}  // namespace freshet
