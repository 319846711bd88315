# find_package(freshet): freshet::inference, freshet::features, freshet::core. See docs/embedding.md.
include(CMakeFindDependencyMacro)
list(PREPEND CMAKE_MODULE_PATH ${CMAKE_CURRENT_LIST_DIR})  # for Dnnl
find_dependency(Dnnl)
list(POP_FRONT CMAKE_MODULE_PATH)
find_dependency(OpenMP COMPONENTS CXX)
find_dependency(PkgConfig)
find_dependency(Threads)
find_dependency(ZLIB)
pkg_check_modules(HWY REQUIRED IMPORTED_TARGET libhwy libhwy-contrib)
pkg_check_modules(XXHASH REQUIRED IMPORTED_TARGET libxxhash)
include(${CMAKE_CURRENT_LIST_DIR}/freshet-targets.cmake)
