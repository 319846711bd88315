# What find_package(freshet) finds, for programs that embed the engine (docs/embedding.md): three libraries and the headers that their
# users need. The component `development`.
include(CMakePackageConfigHelpers)
set(package ${CMAKE_INSTALL_LIBDIR}/cmake/freshet)
set(public_headers
  core/event.h core/ids.h core/key_value_cache.h core/recommendation.h core/result.h core/vocabulary.h
  features/tokenize.h
  inference/cached_rows.h inference/engine.h inference/model.h inference/number_types.h inference/ranker.h)

foreach(library core features inference)
  set_target_properties(freshet_${library} PROPERTIES EXPORT_NAME ${library})
  target_compile_features(freshet_${library} INTERFACE cxx_std_20)
  install(TARGETS freshet_${library} EXPORT freshet-targets
    ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR} COMPONENT development
    INCLUDES DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
endforeach()
install(EXPORT freshet-targets NAMESPACE freshet:: DESTINATION ${package} COMPONENT development)
write_basic_package_version_file(${PROJECT_BINARY_DIR}/freshet-config-version.cmake COMPATIBILITY SameMinorVersion)
install(FILES cmake/freshet-config.cmake cmake/FindDnnl.cmake ${PROJECT_BINARY_DIR}/freshet-config-version.cmake
  DESTINATION ${package} COMPONENT development)

# Installed headers include each other as <freshet/core/...>, so that a program needs one include directory, and may have a core/ of
# its own.
install(CODE "
  foreach(header ${public_headers})
    file(READ ${PROJECT_SOURCE_DIR}/\${header} text)
    string(REGEX REPLACE \"#include \\\"([a-z_/]+[.]h)\\\"\" \"#include <freshet/\\\\1>\" text \"\${text}\")
    file(WRITE ${PROJECT_BINARY_DIR}/include/freshet/\${header} \"\${text}\")
  endforeach()" COMPONENT development)
install(DIRECTORY ${PROJECT_BINARY_DIR}/include/freshet DESTINATION ${CMAKE_INSTALL_INCLUDEDIR} COMPONENT development)
