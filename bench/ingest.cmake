freshet_bench(ingest_bench SOURCES ingest_bench.cc LINKS freshet::ingest nlohmann_json::nlohmann_json)
