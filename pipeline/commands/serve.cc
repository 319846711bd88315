// freshet serve: the other end of the recommendation topic, for those who ask over HTTP.
#include <spdlog/spdlog.h>

#include <atomic>
#include <memory>
#include <utility>

#include "ingest/kafka.h"
#include "ingest/kafka_range.h"
#include "pipeline/commands/commands.h"
#include "pipeline/readiness.h"
#include "pipeline/serve/recommendation_server.h"
#include "pipeline/serve/recommendation_streams.h"
#include "pipeline/serve/topic_follower.h"
#include "pipeline/version.h"
#include "state/recommendation_store.h"

namespace freshet {
namespace {

// A group of one: every instance serves every user, and the group's lag shows how far it is.
KafkaOptions ReaderOf(const Config& config, const std::string& instance) {
  KafkaOptions options = KafkaOptionsFor(config);
  options.application += "-serve-" + instance;
  options.source_topic = config.sink.topic;
  options.recommendations_topic.clear();
  options.dead_letters_topic.clear();
  options.start = "earliest";
  options.on_offset_gap = OffsetGapPolicy::kAccept;  // what retention took is older than what is left
  return options;
}

Status Serve(const ConfigFlags& flags) {
  const std::atomic<bool>& stop = StopOnSignals();
  ASSIGN_OR_RETURN(const Config config, LoadEffectiveConfig(flags));
  FlushLogRegularly();
  RecommendationStoreOptions store_options;
  store_options.directory = config.serve.directory;
  store_options.topic = config.sink.topic;
  store_options.block_cache_bytes = config.state.block_cache_bytes;
  store_options.write_buffer_bytes = config.state.write_buffer_bytes;
  ASSIGN_OR_RETURN(const std::unique_ptr<RecommendationStore> store, RecommendationStore::Open(store_options));
  const KafkaOptions kafka = ReaderOf(config, store->instance());
  const auto wait = [&stop](const std::string& reason) {
    spdlog::debug("waiting: {}", reason);
    return !stop;
  };
  const Status there = CheckTopics(kafka, wait);
  if (stop) return {};
  RETURN_IF_ERROR(there);
  ASSIGN_OR_RETURN(TopicRange ends, SettleRange(kafka, "earliest", "latest", wait));
  ASSIGN_OR_RETURN(const std::unique_ptr<EventSource> source, MakeKafkaSource(kafka));
  Readiness readiness;
  RecommendationStreams streams(*store);
  TopicFollower follower(*source, *store, streams, std::move(ends), readiness);
  ASSIGN_OR_RETURN(const std::unique_ptr<RecommendationServer> server,
                   RecommendationServer::Start(
                       {config.http, config.sink.topic, kVersion, static_cast<size_t>(config.serve.max_streams)},
                       *store, streams, follower, readiness));
  spdlog::info("serving topic {} from {} on port {}; {}", config.sink.topic, config.serve.directory, server->port(),
               KafkaClientDescription());
  return follower.Run(stop);
}

}  // namespace

void AddServe(CLI::App& app, Action& action) {
  auto flags = std::make_shared<ConfigFlags>();
  CLI::App* const command =
      app.add_subcommand("serve", "Follows the recommendation topic and answers look-ups over HTTP, until SIGTERM");
  AddConfigFlags(*command, *flags);
  command->footer("Example:\n  freshet serve -c freshet.yaml --set http.listen=127.0.0.1:8081");
  command->callback([flags, &action] { action = [flags] { return Serve(*flags); }; });
}

}  // namespace freshet
