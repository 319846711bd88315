# Everything comes from the distribution's packages; deploy/install-dependencies.sh installs them.

find_package(Threads REQUIRED)
find_package(PkgConfig REQUIRED)
find_package(OpenMP REQUIRED COMPONENTS CXX)
find_package(ZLIB REQUIRED)
find_package(Dnnl REQUIRED)
find_package(RocksDB REQUIRED)
find_package(Boost 1.74 REQUIRED CONFIG)
find_package(OpenSSL 3.0 REQUIRED)
find_package(simdjson REQUIRED)
find_package(yaml-cpp REQUIRED)
find_package(CLI11 QUIET)
find_package(spdlog REQUIRED)
find_package(prometheus-cpp REQUIRED)
find_package(nlohmann_json REQUIRED)
find_package(Protobuf 3.12 REQUIRED)
pkg_check_modules(RDKAFKA REQUIRED IMPORTED_TARGET rdkafka)
pkg_check_modules(ZSTD REQUIRED IMPORTED_TARGET libzstd)
pkg_check_modules(XXHASH REQUIRED IMPORTED_TARGET libxxhash)
pkg_check_modules(HWY REQUIRED IMPORTED_TARGET libhwy libhwy-contrib)

# For the dashboard: libjs-chart.js and libjs-bootstrap5.
find_file(FRESHET_CHART_JS chart.min.js PATHS /usr/share/javascript/chart.js REQUIRED)
find_file(FRESHET_BOOTSTRAP_REBOOT_CSS bootstrap-reboot.min.css PATHS /usr/share/javascript/bootstrap5/css REQUIRED)

if(FRESHET_TESTS)
  find_package(GTest REQUIRED)
  include(GoogleTest)
endif()
if(FRESHET_BENCHMARKS)
  find_package(benchmark REQUIRED)
endif()

if(NOT TARGET CLI11::CLI11)  # Debian 12 ships the header without a CMake package on some architectures
  find_path(CLI11_INCLUDE_DIR CLI/CLI.hpp REQUIRED)
  add_library(CLI11::CLI11 INTERFACE IMPORTED)
  target_include_directories(CLI11::CLI11 INTERFACE ${CLI11_INCLUDE_DIR})
endif()
if(NOT TARGET yaml-cpp::yaml-cpp)  # yaml-cpp 0.7 exports the bare name
  add_library(yaml-cpp::yaml-cpp ALIAS yaml-cpp)
endif()
