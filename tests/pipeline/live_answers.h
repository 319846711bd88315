// Answers of LiveQueries made from those to one query.
#pragma once

#include <functional>
#include <span>
#include <utility>
#include <vector>

#include "pipeline/live_queries.h"

namespace freshet {

inline LiveQueries::Answerer Each(std::function<LiveAnswer(const LiveQuery&)> answer) {
  return [answer = std::move(answer)](std::span<const LiveQuery* const> queries) {
    std::vector<LiveAnswer> answers;
    for (const LiveQuery* const query : queries) answers.push_back(answer(*query));
    return answers;
  };
}

}  // namespace freshet
