add_executable(freshet_end_to_end end_to_end.cc bench_log.cc floors.cc replay_run.cc result_check.cc)
target_link_libraries(freshet_end_to_end PRIVATE freshet_flags freshet::pipeline CLI11::CLI11 simdjson::simdjson
  RocksDB::rocksdb-shared PkgConfig::RDKAFKA PkgConfig::HWY Dnnl::dnnl)
