// A producer that keeps a rate, and beside it a read_committed reader: one process, so one clock, which is the
// broker's.
#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string_view>
#include <thread>
#include <unordered_map>

#include "bench/kafka_probe.h"

namespace freshet::bench {
namespace {

using Clock = std::chrono::system_clock;  // with which the broker stamps events

using Place = std::pair<int32_t, int64_t>;  // partition and offset of an event
struct PlaceHash {
  size_t operator()(const Place& place) const { return std::hash<int64_t>()(place.second * 1024 + place.first); }
};

struct Event {
  std::string user;
  std::string line;
  Clock::time_point sent{};
  Clock::time_point appended{};  // by the broker, in whole milliseconds; known once it is acknowledged
  Place place{-1, -1};           // likewise
};

struct Answer {
  Clock::time_point seen;
  Clock::time_point appended;  // by the broker, in whole milliseconds
  Place event;
  std::string user;
  int64_t number;  // in the user's sequence
};

using Numbers = std::unordered_map<std::string, int64_t>;  // of users' newest events

std::string UserOf(const std::string& line) {
  constexpr std::string_view kUser = "\"user_id\":\"";
  const size_t begin = line.find(kUser) + kUser.size();
  return line.substr(begin, line.find('"', begin) - begin);
}

// The events, and in `before` the numbers of those that are skipped.
std::vector<Event> ReadEvents(const FlowOptions& options, Numbers& before) {
  std::ifstream in(options.input);
  std::vector<Event> events;
  std::string line;
  for (int64_t i = 0; i < options.skip && std::getline(in, line); ++i) ++before[UserOf(line)];
  while (static_cast<int64_t>(events.size()) < options.count && std::getline(in, line)) {
    events.push_back({UserOf(line), line});
  }
  if (static_cast<int64_t>(events.size()) < options.count) Fail(options.input.string() + ": too few lines");
  return events;
}

Clock::time_point AppendTime(const rd_kafka_message_t* message) {
  rd_kafka_timestamp_type_t type{};
  const Clock::time_point time{std::chrono::milliseconds(rd_kafka_message_timestamp(message, &type))};
  if (type != RD_KAFKA_TIMESTAMP_LOG_APPEND_TIME) Fail("a topic has no LogAppendTime");
  return time;
}

void OnDelivery(rd_kafka_t*, const rd_kafka_message_t* message, void*) {
  Check(message->err, "an event was not delivered");
  auto& event = *static_cast<Event*>(message->_private);
  event.place = {message->partition, message->offset};
  event.appended = AppendTime(message);
}

void Produce(const FlowOptions& options, std::vector<Event>& events) {
  rd_kafka_conf_t* const conf = rd_kafka_conf_new();
  const Settings settings = {{"bootstrap.servers", options.address},
                             {"enable.idempotence", "true"},
                             {"partitioner", "murmur2_random"},
                             {"linger.ms", options.rate > 0 ? "5" : "20"},  // 5: what Kafka 4's producers do
                             {"socket.nagle.disable", "true"}};
  for (const auto& [name, value] : settings) rd_kafka_conf_set(conf, name.c_str(), value.c_str(), nullptr, 0);
  rd_kafka_conf_set_dr_msg_cb(conf, &OnDelivery);
  const Client client(rd_kafka_new(RD_KAFKA_PRODUCER, conf, nullptr, 0), &rd_kafka_destroy);
  if (client == nullptr) Fail("no producer");
  const Owned<rd_kafka_topic_t> topic(rd_kafka_topic_new(client.get(), options.events.c_str(), nullptr),
                                      &rd_kafka_topic_destroy);
  (void)PartitionsOf(client.get(), options.events);  // connected, before the clock runs
  const auto began = Clock::now();
  for (size_t i = 0; i < events.size(); ++i) {
    Event& event = events[i];
    if (options.rate > 0) {
      const auto due =
          began + std::chrono::nanoseconds(static_cast<int64_t>(1e9 * static_cast<double>(i) / options.rate));
      while (Clock::now() < due) {
        rd_kafka_poll(client.get(), 0);
        std::this_thread::sleep_until(std::min(due, Clock::now() + std::chrono::milliseconds(1)));
      }
    }
    event.sent = Clock::now();
    while (rd_kafka_produce(topic.get(), RD_KAFKA_PARTITION_UA, RD_KAFKA_MSG_F_COPY, event.line.data(),
                            event.line.size(), event.user.data(), event.user.size(), &event) != 0) {
      if (rd_kafka_last_error() != RD_KAFKA_RESP_ERR__QUEUE_FULL) Check(rd_kafka_last_error(), options.events);
      rd_kafka_poll(client.get(), 10);
    }
    if (i % 64 == 0) rd_kafka_poll(client.get(), 0);
  }
  while (rd_kafka_outq_len(client.get()) > 0) rd_kafka_poll(client.get(), 100);
}

int64_t NumberBehind(std::string_view text, std::string_view name) {
  const size_t at = text.find(name);
  if (at == std::string_view::npos) Fail("a recommendation without " + std::string(name));
  return std::atoll(text.data() + at + name.size());
}

// Reads until `count` events are answered and the ends of all partitions are reached.
std::vector<Answer> Follow(const FlowOptions& options, const std::atomic<bool>& produced) {
  const auto wanted = static_cast<size_t>(options.count);
  const Client client = MakeClient(RD_KAFKA_CONSUMER, options.address,
                                   {{"group.id", "freshet-probe"},
                                    {"isolation.level", "read_committed"},
                                    {"enable.auto.commit", "false"},
                                    {"enable.partition.eof", "true"},
                                    {"fetch.wait.max.ms", "20"},
                                    {"socket.nagle.disable", "true"}});
  rd_kafka_poll_set_consumer(client.get());
  const int partitions = PartitionsOf(client.get(), options.answers);
  if (partitions == 0) Fail(options.answers + ": there is no such topic");
  const Owned<rd_kafka_topic_partition_list_t> list(rd_kafka_topic_partition_list_new(partitions),
                                                    &rd_kafka_topic_partition_list_destroy);
  for (int i = 0; i < partitions; ++i) {
    rd_kafka_topic_partition_list_add(list.get(), options.answers.c_str(), i)->offset = 0;
  }
  Check(rd_kafka_assign(client.get(), list.get()), options.answers);

  std::vector<Answer> answers;
  std::unordered_map<Place, int, PlaceHash> seen;
  auto last = Clock::now();
  while (true) {
    const Owned<rd_kafka_message_t> message(rd_kafka_consumer_poll(client.get(), 50), &rd_kafka_message_destroy);
    const auto now = Clock::now();
    const std::chrono::duration<double> quiet = now - last;
    // What comes twice would come soon behind the last.
    if (produced && seen.size() >= wanted && quiet > std::chrono::milliseconds(500)) return answers;
    if (quiet.count() > options.wait_s) return answers;
    if (message == nullptr || message->err == RD_KAFKA_RESP_ERR__PARTITION_EOF) continue;
    Check(message->err, options.answers);
    last = now;
    const std::string_view text(static_cast<const char*>(message->payload), message->len);
    const Place event(static_cast<int32_t>(NumberBehind(text, "\"partition\":")), NumberBehind(text, "\"offset\":"));
    seen[event] += 1;
    answers.push_back({now, AppendTime(message.get()), event,
                       std::string(static_cast<const char*>(message->key), message->key_len),
                       NumberBehind(text, "\"sequence_number\":")});
  }
}

double At(const std::vector<double>& sorted, double share) {
  return sorted.empty() ? 0 : sorted[static_cast<size_t>(share * static_cast<double>(sorted.size() - 1))];
}

double Milliseconds(Clock::duration duration) { return std::chrono::duration<double, std::milli>(duration).count(); }

// Checks what was seen, too: each event answered, and how often; each user's answers numbered without a gap.
nlohmann::json Report(const FlowOptions& options, const std::vector<Event>& events, const std::vector<Answer>& answers,
                      Numbers numbers) {
  std::unordered_map<Place, const Event*, PlaceHash> by_place;
  for (const Event& event : events) by_place[event.place] = &event;
  const auto counted_from =
      events.front().sent + std::chrono::nanoseconds(static_cast<int64_t>(1e9 * options.warm_up_s));
  std::vector<double> latencies;
  int64_t repeated = 0, gaps = 0;
  double longest = 0;
  for (size_t i = 0; i < answers.size(); ++i) {
    const Answer& answer = answers[i];
    if (i > 0) longest = std::max(longest, Milliseconds(answer.seen - answers[i - 1].seen));
    const auto found = by_place.find(answer.event);
    if (found == by_place.end() || found->second == nullptr) {
      ++repeated;
      continue;
    }
    const Event& event = *std::exchange(found->second, nullptr);
    int64_t& number = numbers[answer.user];
    if (answer.number != number + 1) ++gaps;
    number = answer.number;
    if (event.sent >= counted_from) latencies.push_back(Milliseconds(answer.seen - event.appended));
  }
  int64_t missing = 0;
  for (const auto& [place, event] : by_place) missing += event != nullptr;
  std::sort(latencies.begin(), latencies.end());
  const double seconds = answers.empty() ? 0 : Milliseconds(answers.back().seen - events.front().sent) / 1000;
  const double fed = Milliseconds(events.back().sent - events.front().sent) / 1000;
  return {{"answers", answers.size()},   {"missing", missing},
          {"repeated", repeated},        {"gaps", gaps},
          {"seconds", seconds},          {"fed_s", fed},
          {"p50_ms", At(latencies, .5)}, {"p99_ms", At(latencies, .99)},
          {"max_ms", At(latencies, 1)},  {"longest_gap_ms", longest}};
}

}  // namespace

void Flow(const FlowOptions& options) {
  Numbers before;
  std::vector<Event> events = ReadEvents(options, before);
  if (options.answers.empty()) {
    Produce(options, events);
    return;
  }
  std::atomic<bool> produced = false;
  std::thread producer([&] {
    Produce(options, events);
    produced = true;
  });
  const std::vector<Answer> answers = Follow(options, produced);
  producer.join();
  std::printf("%s\n", Report(options, events, answers, std::move(before)).dump().c_str());
}

void Review(const FlowOptions& options) {
  std::vector<Answer> answers = Follow(options, true);
  std::unordered_map<Place, int, PlaceHash> answered;
  Numbers numbers;
  int64_t gaps = 0;
  for (const Answer& answer : answers) {
    answered[answer.event] += 1;
    gaps += answer.number != ++numbers[answer.user];
  }
  std::sort(answers.begin(), answers.end(), [](const Answer& a, const Answer& b) { return a.appended < b.appended; });
  const auto counted = std::partition_point(answers.begin(), answers.end(), [&](const Answer& answer) {
    return answer.appended < Clock::time_point(std::chrono::milliseconds(options.since_ms));
  });
  const double ms = counted == answers.end() ? 0 : Milliseconds(answers.back().appended - counted->appended);
  const nlohmann::json report = {{"answers", answers.size()},
                                 {"missing", options.count - static_cast<int64_t>(answered.size())},
                                 {"repeated", answers.size() - answered.size()},
                                 {"gaps", gaps},
                                 {"counted", answers.end() - counted},
                                 {"seconds", ms / 1000}};
  std::printf("%s\n", report.dump().c_str());
}

}  // namespace freshet::bench
