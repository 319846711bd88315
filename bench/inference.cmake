freshet_bench(inference_bench SOURCES inference_bench.cc LINKS freshet::inference)
