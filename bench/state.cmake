freshet_bench(state_bench SOURCES state_bench.cc LINKS freshet::state)
