freshet_bench(features_bench SOURCES features_bench.cc LINKS freshet::features)
