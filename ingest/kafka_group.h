// What a consumer group's coordinator knows of it. Internal to ingest/kafka*.cc; librdkafka's types are only declared
// here.
#pragma once

#include <functional>
#include <string>

#include "core/result.h"

struct rd_kafka_s;
struct rd_kafka_ConsumerGroupDescription_s;

namespace freshet::kafka {

// `look` sees the description, which dies after it; null: there is no such group. kUnavailable: nobody answers. Waits
// at most two of kRequestMs, and no longer than `keep_waiting`, where given, says.
Status DescribeGroup(rd_kafka_s* client, const std::string& group,
                     const std::function<void(const rd_kafka_ConsumerGroupDescription_s*)>& look,
                     const std::function<bool()>& keep_waiting = {});

}  // namespace freshet::kafka
