add_executable(freshet_kafka_probe kafka_flow.cc kafka_probe.cc)
target_link_libraries(freshet_kafka_probe PRIVATE freshet_flags freshet::state CLI11::CLI11 nlohmann_json::nlohmann_json
  PkgConfig::RDKAFKA)
