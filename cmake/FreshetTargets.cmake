# How every target of ours is built: warnings are errors here, and only here.

find_program(CCACHE_PROGRAM ccache)
if(CCACHE_PROGRAM)
  set(CMAKE_C_COMPILER_LAUNCHER ${CCACHE_PROGRAM})
  set(CMAKE_CXX_COMPILER_LAUNCHER ${CCACHE_PROGRAM})
endif()

add_library(freshet_flags INTERFACE)
target_include_directories(freshet_flags INTERFACE ${PROJECT_SOURCE_DIR})
target_compile_options(freshet_flags INTERFACE
  -Wall -Wextra -Wshadow -Wnon-virtual-dtor -Woverloaded-virtual -Werror
  -Wno-missing-field-initializers  # members have defaults; naming the first few is enough
  # g++ 12 reports false positives of these in libstdc++ itself at -O2.
  $<$<CXX_COMPILER_ID:GNU>:-Wno-restrict;-Wno-stringop-overflow;-Wno-array-bounds;-Wno-maybe-uninitialized>)
if(FRESHET_SANITIZE)
  target_compile_options(freshet_flags INTERFACE -fsanitize=${FRESHET_SANITIZE} -fno-omit-frame-pointer -g)
  target_link_options(freshet_flags INTERFACE -fsanitize=${FRESHET_SANITIZE})
endif()
if(FRESHET_SANITIZE MATCHES thread)
  add_library(freshet_c11_threads SHARED ${PROJECT_SOURCE_DIR}/tests/support/c11_threads.cc)
  target_link_libraries(freshet_flags INTERFACE freshet_c11_threads)
endif()
if(FRESHET_COVERAGE)
  target_compile_options(freshet_flags INTERFACE --coverage -g)
  target_link_options(freshet_flags INTERFACE --coverage)
endif()

# What Debian builds its own packages with (dpkg-buildflags), for the programs that are installed; a test reads it off them.
add_library(freshet_hardening INTERFACE)
if(NOT FRESHET_SANITIZE AND NOT FRESHET_COVERAGE)
  target_compile_options(freshet_hardening INTERFACE
    -fstack-protector-strong -fstack-clash-protection $<$<STREQUAL:${CMAKE_SYSTEM_PROCESSOR},x86_64>:-fcf-protection>
    $<$<CONFIG:Release,RelWithDebInfo>:-U_FORTIFY_SOURCE;-D_FORTIFY_SOURCE=2>)  # which needs an optimising build
  target_link_options(freshet_hardening INTERFACE LINKER:-z,relro,-z,now)
endif()

# freshet_library(name SOURCES ... LINKS ... PRIVATE_LINKS ...): the library of one folder, freshet::name.
function(freshet_library name)
  cmake_parse_arguments(ARG "" "" "SOURCES;LINKS;PRIVATE_LINKS" ${ARGN})
  add_library(freshet_${name} STATIC ${ARG_SOURCES})
  add_library(freshet::${name} ALIAS freshet_${name})
  target_link_libraries(freshet_${name} PUBLIC ${ARG_LINKS}
    PRIVATE $<BUILD_INTERFACE:freshet_flags> $<BUILD_INTERFACE:freshet_hardening> ${ARG_PRIVATE_LINKS})
  target_include_directories(freshet_${name} PUBLIC $<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}>)
endfunction()

# The test programs labelled unit: what a sanitizer build compiles.
add_custom_target(unit_tests)

# freshet_test(name LABEL label SOURCES ... LINKS ...): a GoogleTest program whose cases CTest lists one by one.
function(freshet_test name)
  cmake_parse_arguments(ARG "" "LABEL;TIMEOUT" "SOURCES;LINKS" ${ARGN})
  add_executable(${name} ${ARG_SOURCES})
  target_link_libraries(${name} PRIVATE freshet_flags ${ARG_LINKS} freshet_test_support GTest::gmock)
  if(FRESHET_SANITIZE)
    target_compile_options(${name} PRIVATE -O0)  # GoogleMock with sanitizers and -O2 compiles three times as long
  endif()
  if(NOT ARG_LABEL)
    set(ARG_LABEL unit)
  endif()
  if(ARG_LABEL STREQUAL unit)
    add_dependencies(unit_tests ${name})
  endif()
  if(NOT ARG_TIMEOUT)
    set(ARG_TIMEOUT 120)
  endif()
  if(FRESHET_SANITIZE)
    math(EXPR ARG_TIMEOUT "${ARG_TIMEOUT} * 5")
  endif()
  gtest_discover_tests(${name} TEST_PREFIX ${name}. DISCOVERY_TIMEOUT 60
    PROPERTIES LABELS ${ARG_LABEL} TIMEOUT ${ARG_TIMEOUT})
endfunction()
