#include "pipeline/event_log.h"

#include <spdlog/spdlog.h>

#include <unordered_map>
#include <utility>
#include <variant>

#include "core/hash.h"
#include "core/thousands.h"
#include "features/tokenize.h"
#include "ingest/log_files.h"
#include "ingest/timestamp.h"
#include "state/user_state.h"

namespace freshet {
namespace {

constexpr size_t kBatch = 4096;

// Everything from the beginning, nothing kept: the whole log is one partition without state.
class ReadAll : public AssignmentListener {
 public:
  Result<std::optional<Offset>> OnAssigned(const Assignment&) override { return std::optional<Offset>(); }
  Status OnRevoked(PartitionId, bool) override { return {}; }
};

// Gives ids rows in order of first appearance.
class Rows {
 public:
  Rows() : ids_{std::string(kUnknownName)} {}
  uint32_t RowOf(std::string_view id) {
    const auto [found, fresh] = rows_.try_emplace(std::string(id), static_cast<uint32_t>(ids_.size()));
    if (fresh) ids_.emplace_back(id);
    return found->second;
  }
  std::vector<std::string> Take() { return std::move(ids_); }

 private:
  std::vector<std::string> ids_;
  std::unordered_map<std::string, uint32_t> rows_;
};

// Vocabularies and user lists are lines of row<TAB>id.
bool Listable(std::string_view id) { return id.find_first_of("\t\n\r") == std::string_view::npos; }

class Reader {
 public:
  Reader(const Vocabulary* vocabulary, TimeRange range) : vocabulary_(vocabulary), range_(range) {}

  Status Take(const RawRecord& record, EventDecoder& decoder, Arena& arena) {
    if (!record.damage.empty()) {
      return Error(ErrorCode::kCorrupt, std::string(record.damage) + ", at record " +
                                            std::to_string(Raw(record.shown_offset)) + "; expected a whole file");
    }
    const auto decoded = decoder.Decode(record, arena);
    if (const auto* const failure = std::get_if<DecodeFailure>(&decoded)) {
      ++bad_records_;
      spdlog::debug("{}[{}]: {}: {}", record.topic, Raw(record.shown_offset), failure->code, failure->message);
      return {};
    }
    const Event& event = std::get<Event>(decoded);
    if (IsDuplicate(event)) {
      ++duplicates_;
      return {};
    }
    if (event.timestamp_ms < range_.from_ms || event.timestamp_ms >= range_.to_ms) {
      ++out_of_range_;
      return {};
    }
    if (!Listable(event.user_id) || !Listable(event.item_id) || !Listable(event.event_type)) {
      ++unlistable_ids_;
      return {};
    }
    const auto [found, fresh] = user_index_.try_emplace(std::string(event.user_id), users_.size());
    if (fresh) {
      users_.push_back({std::string(event.user_id), {}});
      before_ms_.push_back(event.timestamp_ms);
    }
    CompareTime(record, event, before_ms_[found->second]);
    users_[found->second].tokens.push_back(TokenOf(event));
    order_.push_back({static_cast<uint32_t>(found->second), event.timestamp_ms});
    ++events_;
    return {};
  }

  Result<EventLog> Finish() && {
    ASSIGN_OR_RETURN(Vocabulary vocabulary, vocabulary_ != nullptr ? Result<Vocabulary>(*vocabulary_)
                                                                   : Vocabulary::Make(items_.Take(), types_.Take()));
    return EventLog{std::move(vocabulary), std::move(users_), std::move(order_), events_,       duplicates_,
                    bad_records_,          unlistable_ids_,   unknown_items_,    out_of_range_, std::move(disorder_)};
  }

 private:
  // before_ms: of the user's event before, then of this one.
  void CompareTime(const RawRecord& record, const Event& event, int64_t& before_ms) {
    if (event.timestamp_ms < before_ms && disorder_.events++ == 0) {
      disorder_.example = std::string(record.topic) + ", record " + std::to_string(Raw(record.shown_offset)) +
                          ": user " + std::string(event.user_id) + ", " + FormatTime(event.timestamp_ms) + " after " +
                          FormatTime(before_ms);
    }
    before_ms = event.timestamp_ms;
  }

  // As UserState::Append() has it.
  bool IsDuplicate(const Event& event) {
    const EventIdHash id = HashEventId(event.event_id);
    if (id == kNoEventId) return false;
    RecentIds& recent = recent_ids_[std::string(event.user_id)];
    if (recent.Contains(id)) return true;
    recent.Add(id);
    return false;
  }

  ModelToken TokenOf(const Event& event) {
    const Token token = MakeToken(event);
    if (vocabulary_ == nullptr) {
      return {ItemRow{items_.RowOf(event.item_id)}, TypeRow{types_.RowOf(event.event_type)},
              WholeSeconds(token.time_ms)};
    }
    const ModelToken known = ToModelToken(token, *vocabulary_);
    unknown_items_ += known.item == kUnknownItem ? 1 : 0;
    return known;
  }

  const Vocabulary* vocabulary_;
  TimeRange range_;
  Rows items_;
  Rows types_;
  std::unordered_map<std::string, size_t> user_index_;
  std::vector<UserSequence> users_;
  std::vector<int64_t> before_ms_;  // by user: of the event before
  std::vector<LoggedEvent> order_;
  std::unordered_map<std::string, RecentIds> recent_ids_;  // of users whose events carry ids
  int64_t events_ = 0;
  int64_t duplicates_ = 0;
  int64_t bad_records_ = 0;
  int64_t unlistable_ids_ = 0;
  int64_t unknown_items_ = 0;
  int64_t out_of_range_ = 0;
  Disorder disorder_;
};

}  // namespace

Result<EventLog> ReadEventLog(const Config& config, std::span<const std::filesystem::path> inputs,
                              const Vocabulary* vocabulary, TimeRange range) {
  ASSIGN_OR_RETURN(const auto decoder, MakeDecoder(config.source.decoder));
  ASSIGN_OR_RETURN(const auto commit_log, CommitLog::Open({}, inputs));
  LogFileOptions options;
  options.paths.assign(inputs.begin(), inputs.end());
  options.partitions = 1;
  ASSIGN_OR_RETURN(options.has_header, HasHeaderLine(config.source.decoder));
  options.check_header = [&](std::string_view header) { return decoder->CheckHeader(header); };
  const auto source = MakeLogFileSource(std::move(options), *commit_log);
  ReadAll listener;
  RETURN_IF_ERROR(source->Open(listener));
  Reader reader(vocabulary, range);
  RecordBatch batch;
  for (PollState state = PollState::kMore; state != PollState::kEnd;) {
    batch.Clear();
    ASSIGN_OR_RETURN(state, source->Poll(batch, kBatch, std::chrono::milliseconds(0)));
    for (const RawRecord& record : batch.records) RETURN_IF_ERROR(reader.Take(record, *decoder, batch.arena));
  }
  RETURN_IF_ERROR(source->Close());
  ASSIGN_OR_RETURN(EventLog log, std::move(reader).Finish());
  if (log.disorder.events > 0) {
    spdlog::warn(
        "{} events are earlier than the one before them of the same user ({}): a user's last event in the log is then "
        "not the last that happened, and what is learnt or predicted is wrong; sort the log by time",
        WithThousands(log.disorder.events), log.disorder.example);
  }
  return log;
}

}  // namespace freshet
