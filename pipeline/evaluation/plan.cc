#include "pipeline/evaluation/plan.h"

#include <algorithm>
#include <limits>
#include <string>

#include "core/hash.h"
#include "ingest/timestamp.h"

namespace freshet {
namespace {

constexpr int64_t kNever = std::numeric_limits<int64_t>::min();

// How popular items are among the events taken in: sums over all items of at most some count, by a Fenwick tree.
class Counts {
 public:
  Counts(size_t items, size_t events) : counts_(items), tree_(events + 1) {}

  void Add(ItemRow item) {
    const size_t count = counts_[Raw(item)]++;
    Change(count, -static_cast<int64_t>(count));
    Change(count + 1, static_cast<int64_t>(count) + 1);
    ++total_;
  }

  bool IsHead(ItemRow item) const {
    const size_t count = counts_[Raw(item)];
    return count > 0 && static_cast<double>(total_ - UpTo(count)) < kHeadShare * static_cast<double>(total_);
  }

 private:
  void Change(size_t count, int64_t difference) {
    for (; count > 0 && count < tree_.size(); count += count & (~count + 1)) tree_[count] += difference;
  }
  int64_t UpTo(size_t count) const {
    int64_t sum = 0;
    for (; count > 0; count -= count & (~count + 1)) sum += tree_[count];
    return sum;
  }

  std::vector<size_t> counts_;
  std::vector<int64_t> tree_;
  int64_t total_ = 0;
};

ItemRow TargetOf(const EventLog& log, const Case& asked) { return log.users[asked.user].tokens[asked.history].item; }

// Fills in what depends on the known events, in the order of the cases.
void MarkSlices(EvaluationPlan& plan) {
  const EventLog& log = *plan.log;
  Counts counts(log.vocabulary.item_ids().size(), plan.events.size());
  std::vector<int64_t> first_ms(log.vocabulary.item_ids().size(), kNever);
  size_t known = 0;
  for (Case& asked : plan.cases) {
    for (; known < asked.known; ++known) {
      const KnownEvent& event = plan.events[known];
      const ItemRow item = log.users[event.user].tokens[event.history].item;
      counts.Add(item);
      if (first_ms[Raw(item)] == kNever) first_ms[Raw(item)] = event.time_ms;
    }
    const ItemRow target = TargetOf(log, asked);
    const auto history = std::span(log.users[asked.user].tokens).first(asked.history);
    asked.seen = std::any_of(history.begin(), history.end(), [&](const auto& token) { return token.item == target; });
    asked.head = counts.IsHead(target);
    asked.new_user = asked.history < kNewUserEvents;
    const int64_t first = first_ms[Raw(target)];
    asked.new_item = plan.items_appear && (first == kNever || asked.now_ms - first < kNewItemMs);
  }
}

// Calls visit(event, its place among its user's) in log order.
template <typename Visit>
void WalkLog(const EventLog& log, Visit visit) {
  std::vector<uint32_t> events(log.users.size());
  for (const LoggedEvent& event : log.order) visit(event, events[event.user]++);
}

int64_t CountOutOfOrder(const EventLog& log) {
  int64_t count = 0, newest = kNever;
  for (const LoggedEvent& event : log.order) {
    count += event.time_ms < newest ? 1 : 0;
    newest = std::max(newest, event.time_ms);
  }
  return count;
}

template <typename Row, typename Hash>
std::vector<Row> RowsOf(const std::vector<std::string>& ids, Hash hash, const Vocabulary& model) {
  std::vector<Row> rows(ids.size());
  for (size_t row = 1; row < ids.size(); ++row) rows[row] = model.RowOf(hash(ids[row]));
  return rows;
}

}  // namespace

Result<EvaluationPlan> PlanLeaveOneOut(const EventLog& log) {
  EvaluationPlan plan;
  plan.log = &log;
  plan.out_of_order = CountOutOfOrder(log);
  int64_t newest = kNever;
  WalkLog(log, [&](const LoggedEvent& event, uint32_t history) {
    if (history + 1 == log.users[event.user].tokens.size()) return;
    plan.events.push_back({event.user, history, event.time_ms});
    newest = std::max(newest, event.time_ms);
  });
  for (uint32_t user = 0; user < log.users.size(); ++user) {
    const size_t events = log.users[user].tokens.size();
    if (events < 2) continue;
    Case asked;
    asked.user = user;
    asked.history = static_cast<uint32_t>(events - 1);
    asked.known = plan.events.size();
    asked.now_ms = newest;
    plan.cases.push_back(asked);
  }
  if (plan.cases.empty())
    return Error(ErrorCode::kInvalidArgument, "--input: no user has two events, which leave-one-out needs");
  MarkSlices(plan);
  return plan;
}

Result<EvaluationPlan> PlanPrequential(const EventLog& log, std::optional<int64_t> from_ms) {
  if (log.order.empty()) return Error(ErrorCode::kInvalidArgument, "--input: no events to predict");
  EvaluationPlan plan;
  plan.log = &log;
  plan.items_appear = true;
  plan.out_of_order = CountOutOfOrder(log);
  plan.events.reserve(log.order.size());
  WalkLog(log, [&](const LoggedEvent& event, uint32_t history) {
    if (event.time_ms >= from_ms.value_or(kNever)) {
      Case asked;
      asked.user = event.user;
      asked.history = history;
      asked.known = plan.events.size();
      asked.now_ms = event.time_ms;
      plan.cases.push_back(asked);
    }
    plan.events.push_back({event.user, history, event.time_ms});
  });
  if (plan.cases.empty()) {
    const auto newest = std::max_element(log.order.begin(), log.order.end(),
                                         [](const auto& a, const auto& b) { return a.time_ms < b.time_ms; });
    return Error(
        ErrorCode::kInvalidArgument,
        "--from " + FormatTime(*from_ms) + ": after the newest event of --input, " + FormatTime(newest->time_ms));
  }
  MarkSlices(plan);
  return plan;
}

RowMap MapRows(const Vocabulary& log, const Vocabulary& model) {
  return {RowsOf<ItemRow>(log.item_ids(), HashItem, model), RowsOf<TypeRow>(log.type_names(), HashType, model)};
}

KnownShare KnownOf(const EventLog& log, const Vocabulary& model) {
  const std::vector<ItemRow> rows = MapRows(log.vocabulary, model).items;
  KnownShare share;
  share.items = static_cast<int64_t>(rows.size()) - 1;
  share.known_items = std::count_if(rows.begin(), rows.end(), [](ItemRow row) { return row != kUnknownItem; });
  for (const UserSequence& user : log.users) {
    share.events += static_cast<int64_t>(user.tokens.size());
    share.known_events += std::count_if(user.tokens.begin(), user.tokens.end(),
                                        [&](const ModelToken& token) { return rows[Raw(token.item)] != kUnknownItem; });
  }
  return share;
}

RowMap SameRows(const Vocabulary& log) {
  RowMap map;
  for (uint32_t row = 0; row < log.item_ids().size(); ++row) map.items.push_back(ItemRow{row});
  for (uint32_t row = 0; row < log.type_names().size(); ++row) map.types.push_back(TypeRow{row});
  return map;
}

}  // namespace freshet
