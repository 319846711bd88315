// Which instance has which partition, as the members of the consumer group tell.
#include <librdkafka/rdkafka.h>
#include <spdlog/spdlog.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <cctype>
#include <condition_variable>
#include <map>
#include <mutex>
#include <optional>
#include <stop_token>
#include <thread>
#include <utility>

#include "ingest/kafka.h"
#include "ingest/kafka_common.h"
#include "ingest/kafka_group.h"

namespace freshet {
namespace kafka {
namespace {

using std::chrono::steady_clock;

constexpr std::chrono::seconds kInterval{2};
constexpr char kMark = '@';

using Partitioner = int32_t (*)(const rd_kafka_topic_t*, const void*, size_t, int32_t, void*, void*);

// That librdkafka has under this name, for keys that are not empty; null: it does not go by the key.
Partitioner PartitionerOf(const KafkaOptions& options) {
  const auto given = options.properties.find("partitioner");
  const std::string name = given == options.properties.end() ? "murmur2" : given->second;
  if (name == "murmur2" || name == "murmur2_random") return &rd_kafka_msg_partitioner_murmur2;
  if (name == "consistent" || name == "consistent_random") return &rd_kafka_msg_partitioner_consistent;
  if (name == "fnv1a" || name == "fnv1a_random") return &rd_kafka_msg_partitioner_fnv1a;
  return nullptr;
}

class Owners final : public PartitionOwners {
 public:
  explicit Owners(const KafkaOptions& options) : options_(options), partitioner_(PartitionerOf(options)) {}

  Status Connect() {
    const Properties defaults = {{"group.id", options_.application}, {"allow.auto.create.topics", "false"}};
    ASSIGN_OR_RETURN(client_, MakeClient(ClientKind::kConsumer, options_, defaults, health_, [](rd_kafka_conf_s*) {}));
    thread_ = std::jthread([this](const std::stop_token& stop) { Run(stop); });
    return {};
  }

  std::optional<Owner> Find(std::string_view key) const override {
    const int partitions = partitions_;
    if (partitions == 0 || partitioner_ == nullptr) return std::nullopt;
    const PartitionId partition{partitioner_(nullptr, key.data(), key.size(), partitions, nullptr, nullptr)};
    const std::lock_guard lock(mutex_);
    const auto found = addresses_.find(partition);
    if (found == addresses_.end()) return std::nullopt;
    const auto age = std::chrono::duration_cast<std::chrono::milliseconds>(steady_clock::now() - asked_);
    return Owner{partition, found->second, age};
  }

 private:
  void Run(const std::stop_token& stop) {
    std::mutex mutex;
    std::condition_variable_any changed;
    std::unique_lock lock(mutex);
    while (!stop.stop_requested()) {
      const Status asked = Ask(stop);
      rd_kafka_poll(client_.get(), 0);  // lets `health_` know
      if (!asked.ok() && !asked.error().retriable() && !std::exchange(told_, true)) {
        spdlog::warn("{}; look-ups of users at other instances are not redirected", asked.error().message());
      }
      changed.wait_for(lock, stop, kInterval, [] { return false; });
    }
  }

  Status Ask(const std::stop_token& stop) {
    if (partitions_ == 0) {
      ASSIGN_OR_RETURN(partitions_, PartitionsOf(client_.get(), options_.source_topic));
    }
    const auto now = steady_clock::now();  // before the answer, so that an age is never too low
    const auto look = [&](const rd_kafka_ConsumerGroupDescription_t* group) { Take(group, now); };
    return DescribeGroup(client_.get(), options_.application, look, [&stop] { return !stop.stop_requested(); });
  }

  void Take(const rd_kafka_ConsumerGroupDescription_t* group, steady_clock::time_point now) {
    // During a rebalance nobody has anything: what was before is nearer to what comes.
    if (group == nullptr || rd_kafka_ConsumerGroupDescription_state(group) != RD_KAFKA_CONSUMER_GROUP_STATE_STABLE)
      return;
    std::map<PartitionId, std::string> addresses;
    for (size_t i = 0; i < rd_kafka_ConsumerGroupDescription_member_count(group); ++i) {
      const auto* const member = rd_kafka_ConsumerGroupDescription_member(group, i);
      const std::string address = AddressIn(rd_kafka_MemberDescription_client_id(member));
      const auto* const assignment = rd_kafka_MemberDescription_assignment(member);
      const auto* const partitions = assignment == nullptr ? nullptr : rd_kafka_MemberAssignment_partitions(assignment);
      if (address.empty() || partitions == nullptr) continue;
      for (int p = 0; p < partitions->cnt; ++p) {
        if (partitions->elems[p].topic == options_.source_topic) {
          addresses[PartitionId{partitions->elems[p].partition}] = address;
        }
      }
    }
    const std::lock_guard lock(mutex_);
    addresses_ = std::move(addresses);
    asked_ = now;
  }

  const KafkaOptions options_;
  const Partitioner partitioner_;
  Health health_{"owners", nullptr};
  Client client_;
  std::atomic<int> partitions_{0};  // of the source; 0: not known yet
  bool told_ = false;               // of an error that stays
  mutable std::mutex mutex_;
  std::map<PartitionId, std::string> addresses_;
  steady_clock::time_point asked_;
  std::jthread thread_;  // the last: it uses the others
};

}  // namespace

void TellAddress(rd_kafka_conf_s* conf, const std::string& address) {
  std::array<char, 512> name{};
  size_t size = name.size();
  rd_kafka_conf_get(conf, "client.id", name.data(), &size);
  rd_kafka_conf_set(conf, "client.id", (name.data() + (kMark + address)).c_str(), nullptr, 0);
}

// It ends up in a header, and whoever may join the group has written it.
std::string AddressIn(std::string_view client_id) {
  const size_t mark = client_id.rfind(kMark);
  if (mark == std::string_view::npos) return {};
  const std::string_view address = client_id.substr(mark + 1);
  const bool plain = std::all_of(address.begin(), address.end(), [](char c) {
    return std::isalnum(static_cast<unsigned char>(c)) != 0 ||
           std::string_view(".-_:[]").find(c) != std::string_view::npos;
  });
  return plain && address.find(':') != std::string_view::npos ? std::string(address) : std::string();
}

}  // namespace kafka

Result<std::unique_ptr<PartitionOwners>> MakePartitionOwners(const KafkaOptions& options) {
  auto owners = std::make_unique<kafka::Owners>(options);
  RETURN_IF_ERROR(owners->Connect());
  return std::unique_ptr<PartitionOwners>(std::move(owners));
}

}  // namespace freshet
