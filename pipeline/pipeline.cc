#include "pipeline/pipeline.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <cassert>
#include <span>
#include <utility>
#include <variant>

#include "core/clock.h"
#include "core/hash.h"
#include "features/tokenize.h"
#include "ingest/encoder.h"
#include "ingest/log_files.h"
#include "pipeline/pipeline_parts.h"

namespace freshet {
namespace {

using SteadyClock = std::chrono::steady_clock;

// Of a user's newest list: what a long one would take of the hot cache is worth more there.
constexpr size_t kRememberedItems = 100;
constexpr size_t kListsAhead = 4;  // users whose lists are on their way from memory
constexpr size_t kRowsInALine = 64 / sizeof(ItemRow);

}  // namespace

Pipeline::Pipeline(PipelineOptions options, std::shared_ptr<const ServingModel> serving, EventDecoder& decoder,
                   EventSource& source, RecordSink& sink, StateDirectory& states, WorkerMetrics* metrics)
    : options_(std::move(options)),
      empty_snapshots_(options_.snapshots.empty),
      serving_(std::move(serving)),
      decoder_(decoder),
      source_(source),
      sink_(sink),
      states_(states),
      metrics_(metrics),
      buffers_(std::make_unique<Buffers>()),
      engine_scratch_(serving_->engine->MakeScratch(options_.max_batch)),
      ranker_scratch_(serving_->ranker->MakeScratch(options_.max_batch)),
      last_commit_(SteadyClock::now()) {}

Pipeline::~Pipeline() = default;

Status Pipeline::Open() { return source_.Open(*this); }

bool Pipeline::BetweenCommits() const { return buffers_->uncommitted_events == 0 && !rewind_due_; }

void Pipeline::Serve(std::shared_ptr<const ServingModel> serving) {
  assert(BetweenCommits());
  engine_scratch_ = serving->engine->MakeScratch(options_.max_batch);
  ranker_scratch_ = serving->ranker->MakeScratch(options_.max_batch);
  serving_ = std::move(serving);
}

// The life of an event. Lines that leave this process are marked.
Result<PollState> Pipeline::Step(std::chrono::milliseconds wait) {
  ASSIGN_OR_RETURN(const PollState state, Poll(wait));  // I/O: records, and partitions that come and go
  Decode();                                             // bytes → events; bad ones become dead letters
  RETURN_IF_ERROR(Load());                              // I/O: states of the batch's users
  Append();                    // events → tokens → sequences; repeats and duplicates drop out; users are forgotten
  Attend();                    // one attention step for each token → user vectors
  Rank();                      // catalogue scores, seen items out → top-k
  JudgeLists();                // events against the lists that they follow → hit rate
  Encode();                    // recommendations → bytes
  RETURN_IF_ERROR(Publish());  // I/O: not final before the commit
  RETURN_IF_ERROR(MaybeCommit(state == PollState::kEnd));  // I/O: outputs and positions, then state
  if (rewind_due_) {                                       // a transaction came to nothing
    RETURN_IF_ERROR(Rewind());
    return PollState::kMore;
  }
  finished_ = state == PollState::kEnd;
  return state;
}

Result<PollState> Pipeline::Poll(std::chrono::milliseconds wait) {
  stage_began_ = SteadyClock::now();
  buffers_->batch.Clear();
  buffers_->outputs.clear();
  ASSIGN_OR_RETURN(const PollState state, source_.Poll(buffers_->batch, options_.max_batch, wait));
  if (source_.Joined()) parked_.clear();  // what was going to come back is back
  for (const PartitionPosition& position : buffers_->batch.positions) {
    const auto found = partitions_.find(position.partition);
    if (found != partitions_.end()) found->second->next = std::max(found->second->next, position.next);
  }
  ReportGauges();
  ReportStage(Stage::kPoll);
  return state;
}

void Pipeline::Decode() {
  Buffers& b = *buffers_;
  b.works.clear();
  for (auto& [id, partition] : partitions_) partition->works.clear();
  for (RawRecord& record : b.batch.records) {
    std::variant<Event, DecodeFailure> decoded = decoder_.Decode(record, b.batch.arena);
    const Event* const event = std::get_if<Event>(&decoded);
    Partition* const partition = PartitionOf(record, event == nullptr ? std::string_view() : event->user_id);
    if (partition == nullptr || record.offset < partition->begin) continue;
    if (event == nullptr) {
      if (record.offset >= partition->emit_from) AddDeadLetter(record, std::get<DecodeFailure>(decoded));
      continue;
    }
    partition->works.push_back(static_cast<uint32_t>(b.works.size()));
    Work& work = b.works.emplace_back();
    work.record = &record;
    work.partition = partition;
    work.event = *event;
    if (!event->forget) partition->last_event_ms = event->timestamp_ms;
  }
  ReportStage(Stage::kDecode);
}

Status Pipeline::Load() {
  Buffers& b = *buffers_;
  b.by_user.clear();
  for (auto& [id, partition] : partitions_) {
    if (partition->works.empty()) continue;
    partition->users.clear();
    for (const uint32_t index : partition->works) partition->users.push_back(b.works[index].event.user_id);
    auto users = partition->store->Load(partition->users);
    if (!users.ok()) return users.error();
    for (size_t i = 0; i < partition->works.size(); ++i) {
      b.works[partition->works[i]].user = (*users)[i];
      b.by_user.emplace_back((*users)[i], partition->works[i]);
    }
  }
  std::sort(b.by_user.begin(), b.by_user.end());
  ReportStage(Stage::kLoad);
  return {};
}

void Pipeline::Append() {
  Buffers& b = *buffers_;
  const bool latest = options_.emit == Emit::kLatest;
  const bool answers = options_.emit == Emit::kEvery || latest;
  b.rows.clear();
  b.excluded.clear();
  if (answers) b.user_vectors.resize(b.works.size() * static_cast<size_t>(serving_->model->config.dim));
  Work* newest = nullptr;  // of the user's that were taken
  bool current = false;    // the user's rows and keys/values
  size_t begin = 0;        // of the user's works
  for (size_t i = 0; i < b.by_user.size(); ++i) {
    Work& work = b.works[b.by_user[i].second];
    UserState& user = *work.user;
    const bool first = i == 0 || b.by_user[i - 1].first != &user;
    const bool last = i + 1 == b.by_user.size() || b.by_user[i + 1].first != &user;
    if (first) {
      newest = nullptr;
      current = false;
      begin = i;
    }
    if (work.event.forget) {
      if (Forget(work, std::span(b.by_user).subspan(begin, i - begin))) {
        newest = nullptr;
        current = false;
      }
    } else if (answers && !std::exchange(current, true)) {
      ScheduleMissing(user);
    }
    const bool taken = !work.event.forget && Take(work, answers);
    if (taken) newest = &work;
    if (latest ? last && newest != nullptr : answers && taken) WantAnswer(*newest);
  }
}

// Gives the event to its user's sequence, and where `attend`, its token to the engine. False: it was dropped.
bool Pipeline::Take(Work& work, bool attend) {
  const Vocabulary& vocabulary = serving_->model->vocabulary;
  UserState& user = *work.user;
  const Token token = MakeToken(work.event);
  const ItemRow row = attend ? vocabulary.RowOf(token.item) : kUnknownItem;
  const Appended appended = user.Append(token, work.record->offset, row, HashEventId(work.event.event_id));
  if (appended != Appended::kTaken) {
    work.user = nullptr;
    ++(appended == Appended::kRepeat ? counts_.repeats : counts_.duplicates);
    return false;
  }
  ++counts_.events;
  work.row = row;
  work.sequence_number = user.profile().events;
  if (work.record->offset < work.partition->emit_from) ++counts_.silent;
  if (!attend) return true;
  if (row == kUnknownItem) ++counts_.unknown_items;
  buffers_->rows.push_back(
      {&user.key_values(), {row, vocabulary.RowOf(token.type), WholeSeconds(token.time_ms)}, nullptr});
  user.key_values().sequence_number = work.sequence_number;
  user.key_values().user_vector.clear();
  return true;
}

// `before`: the user's works in front of it. False: it was dropped.
bool Pipeline::Forget(Work& work, std::span<const std::pair<const UserState*, uint32_t>> before) {
  Buffers& b = *buffers_;
  UserState& user = *std::exchange(work.user, nullptr);
  const bool known = !user.IsForgotten();
  // What was scheduled so far, that user's tokens among it, is done while their keys/values are there.
  if (!b.rows.empty() && work.record->offset > user.applied_offset()) {
    serving_->engine->Step(b.rows, *engine_scratch_);
    b.rows.clear();
  }
  if (!user.Forget(work.record->offset)) {
    ++counts_.repeats;
    return false;
  }
  for (const auto& [same, index] : before) b.works[index].user = nullptr;
  if (known) ++counts_.forgotten;
  work.forgets = options_.emit != Emit::kNone && work.record->offset >= work.partition->emit_from;
  return true;
}

// Asks for an answer to the event whose token is the newest row, unless it was answered before a crash.
void Pipeline::WantAnswer(Work& work) {
  Buffers& b = *buffers_;
  if (work.record->offset < work.partition->emit_from) return;
  const auto dim = static_cast<size_t>(serving_->model->config.dim);
  work.user_vector = &b.user_vectors[static_cast<size_t>(&work - b.works.data()) * dim];
  b.rows.back().user_vector = work.user_vector;
  if (!options_.exclude_seen) return;
  const std::span<const ItemRow> seen = work.user->item_rows();
  work.excluded_begin = b.excluded.size();
  b.excluded.insert(b.excluded.end(), seen.begin(),
                    seen.end());  // copied: later events of the batch change the history
  work.excluded_end = b.excluded.size();
}

void Pipeline::Attend() {
  Buffers& b = *buffers_;
  serving_->engine->Step(b.rows, *engine_scratch_);
  if (options_.keep_user_vectors) {
    const auto dim = static_cast<size_t>(serving_->model->config.dim);
    for (const auto& [user, index] : b.by_user) {
      const Work& work = b.works[index];
      if (work.user_vector != nullptr && work.user != nullptr)
        work.user->key_values().user_vector.assign(work.user_vector, work.user_vector + dim);
    }
  }
  ReportStage(Stage::kAttention);
}

void Pipeline::Rank() {
  Buffers& b = *buffers_;
  const auto k = static_cast<size_t>(options_.top_k);
  b.top.resize(b.works.size() * k);
  b.requests.clear();
  for (Work& work : b.works) {
    if (work.user_vector == nullptr) continue;
    work.request = b.requests.size();
    const std::span<const ItemRow> excluded(b.excluded.data() + work.excluded_begin,
                                            work.excluded_end - work.excluded_begin);
    b.requests.push_back({work.user_vector, excluded, {&b.top[b.requests.size() * k], k}});
  }
  serving_->ranker->TopK(b.requests, *ranker_scratch_);
  ReportStage(Stage::kRank);
}

// Whether each event's item is in the list that its user got before, and remembers the list that answers it. By user
// and in order, so that it does not matter which events share a batch (but for a user who is forgotten in it: what came
// before that no longer counts).
void Pipeline::JudgeLists() {
  Buffers& b = *buffers_;
  if (options_.emit != Emit::kEvery && options_.emit != Emit::kLatest) return;
  const auto list_of = [&](size_t i) {
    UserState* const user = i < b.by_user.size() ? b.works[b.by_user[i].second].user : nullptr;
    return user == nullptr ? nullptr : &user->last_list();
  };
  for (size_t i = 0; i < b.by_user.size(); ++i) {
    // Scoring the catalogue left none of them in the processor's cache.
    if (const auto* const header = list_of(i + 2 * kListsAhead)) __builtin_prefetch(header, 1);
    if (const auto* const ahead = list_of(i + kListsAhead)) {
      for (size_t n = 0; n < ahead->size(); n += kRowsInALine) __builtin_prefetch(ahead->data() + n, 1);
    }
    const Work& work = b.works[b.by_user[i].second];
    if (work.user == nullptr) continue;  // dropped
    std::vector<ItemRow>& list = work.user->last_list();
    if (work.record->offset < work.partition->emit_from) {  // counted and answered before a crash, or elsewhere
      list.clear();
      continue;
    }
    if (!list.empty()) {
      ++counts_.lists;
      bool hit = false;
      for (const ItemRow row : list) hit |= row == work.row;  // to the end, and so several at a time
      counts_.list_hits += hit;
    }
    if (work.user_vector == nullptr) continue;
    const RankRequest& request = b.requests[work.request];
    list.resize(std::min(request.found, kRememberedItems));
    for (size_t n = 0; n < list.size(); ++n) list[n] = request.top[n].row;
  }
}

void Pipeline::Encode() {
  Buffers& b = *buffers_;
  const auto dim = static_cast<size_t>(serving_->model->config.dim);
  const int64_t now_ms = WallClockMs();
  b.encoded.clear();
  b.encoded_ends.clear();
  size_t answer = 0;
  for (const Work& work : b.works) {
    if (work.user_vector == nullptr) continue;
    const RankRequest& request = b.requests[answer++];
    Recommendation recommendation;
    recommendation.user_id = work.event.user_id;
    recommendation.generated_at_ms = now_ms;
    recommendation.sequence_number = work.sequence_number;
    recommendation.topic = work.record->topic;
    recommendation.partition = work.record->shown_partition;
    recommendation.offset = work.record->shown_offset;
    recommendation.event_time_ms = work.event.timestamp_ms;
    recommendation.items = request.top.first(request.found);
    if (options_.include_user_vector) recommendation.user_vector = {work.user_vector, dim};
    serving_->records().Encode(recommendation, b.encoded);
    b.encoded_ends.push_back(b.encoded.size());
    if (metrics_ != nullptr) b.uncommitted_event_times_ms.push_back(work.event.timestamp_ms);
  }
  answer = 0;
  for (const Work& work : b.works) {
    if (work.forgets) {
      b.outputs.push_back({.stream = Stream::kRecommendations,
                           .key = work.event.user_id,
                           .value = {},
                           .headers = {},
                           .trace = work.record->trace});
    }
    if (work.user_vector == nullptr) continue;
    const size_t begin = answer == 0 ? 0 : b.encoded_ends[answer - 1];
    const std::string_view value = std::string_view(b.encoded).substr(begin, b.encoded_ends[answer++] - begin);
    b.outputs.push_back({.stream = Stream::kRecommendations,
                         .key = work.event.user_id,
                         .value = value,
                         .headers = {},
                         .trace = work.record->trace});
  }
  ReportStage(Stage::kEncode);
}

Status Pipeline::Publish() {
  Buffers& b = *buffers_;
  if (!b.outputs.empty()) RETURN_IF_ERROR(OrRewind(sink_.Publish(b.outputs)));
  counts_.recommendations += static_cast<int64_t>(b.requests.size());
  for (const OutputRecord& output : b.outputs) b.uncommitted_bytes += output.key.size() + output.value.size();
  b.uncommitted_events += static_cast<int64_t>(std::max(b.works.size(), b.outputs.size()));
  b.uncommitted_records += std::ssize(b.batch.records);
  ReportStage(Stage::kPublish);
  return {};
}

Status Pipeline::Close() {
  RETURN_IF_ERROR(Commit(false));
  if (rewind_due_) spdlog::warn("what came after the last commit is read again at the next start");
  RETURN_IF_ERROR(source_.Close());
  parked_.clear();
  restoring_.clear();
  ReportGauges();
  return {};
}

// The open partition that `record` belongs to, or null where it is another worker's. Settles records that come
// unassigned.
Pipeline::Partition* Pipeline::PartitionOf(RawRecord& record, std::string_view user_id) {
  if (record.partition == kPartitionOfUser) {
    record.partition = user_id.empty() ? PartitionOfBadRecord(record.offset, options_.file_partitions)
                                       : PartitionOfUser(user_id, options_.file_partitions);
  }
  const auto found = partitions_.find(record.partition);
  return found == partitions_.end() ? nullptr : found->second.get();
}

void Pipeline::AddDeadLetter(const RawRecord& record, const DecodeFailure& failure) {
  buffers_->outputs.push_back(MakeDeadLetter(record, failure));
  ++counts_.dead_letters;
  buffers_->uncommitted_dead_letters.push_back(failure.code);
}

// Makes the cached keys/values those of the whole sequence and the current model, by scheduling the tokens that they
// lack: none for a hot user, all that count after an eviction or with another model.
void Pipeline::ScheduleMissing(UserState& user) {
  const Model& model = *serving_->model;
  const Vocabulary& vocabulary = model.vocabulary;
  if (!user.RowsAreOf(model.tag)) {
    user.ResetRows(model.tag, [&](const Token& token) { return vocabulary.RowOf(token.item); });
  }
  KeyValueCache& cache = user.key_values();
  const std::span<const Token> tokens = user.tokens();
  int64_t missing = user.profile().events - cache.sequence_number;
  if (cache.model != serving_->engine->cache_tag() || missing < 0 ||
      missing > static_cast<int64_t>(model.config.exact_history())) {
    cache.Clear();
    missing = user.profile().events;
  }
  const size_t rows = std::min({static_cast<size_t>(missing), tokens.size(), model.config.exact_history()});
  for (const Token& token : tokens.last(rows)) {
    buffers_->rows.push_back({&cache, ToModelToken(token, vocabulary), nullptr});
  }
  cache.sequence_number = user.profile().events;
}

}  // namespace freshet
