# `cpack --config build/release/CPackConfig.cmake` makes freshet_VERSION_ARCHITECTURE.deb: what the component `program` installs, and
# what only a package has (cmake/PackageFiles.cmake). Dependencies come from dpkg-shlibdeps, so they are those of the Debian release
# that it is built on.
set(package ${PROJECT_SOURCE_DIR}/deploy/package)
set(CPACK_GENERATOR DEB)
set(CPACK_COMPONENTS_ALL program)
set(CPACK_COMPONENTS_GROUPING ALL_COMPONENTS_IN_ONE)
set(CPACK_DEB_COMPONENT_INSTALL ON)
set(CPACK_PACKAGING_INSTALL_PREFIX /usr)
set(CPACK_STRIP_FILES ON)
set(CPACK_PRE_BUILD_SCRIPTS ${PROJECT_SOURCE_DIR}/cmake/PackageFiles.cmake)
set(CPACK_INSTALL_DEFAULT_DIRECTORY_PERMISSIONS
  OWNER_READ OWNER_WRITE OWNER_EXECUTE GROUP_READ GROUP_EXECUTE WORLD_READ WORLD_EXECUTE)

set(CPACK_PACKAGE_NAME freshet)
set(CPACK_PACKAGE_CONTACT "The freshet authors <freshet@packages.invalid>")
set(CPACK_DEBIAN_FILE_NAME DEB-DEFAULT)
set(CPACK_DEBIAN_PACKAGE_SECTION net)
set(CPACK_DEBIAN_PACKAGE_DESCRIPTION "recommendations from a clickstream, one attention step per event
Reads clicks from Kafka or log files, keeps the recent sequence of each user
in RocksDB, runs one incremental attention step per event on the CPU, and
publishes the user's new best items to a Kafka topic or a file, exactly once.")
set(CPACK_DEBIAN_PACKAGE_SHLIBDEPS ON)
set(CPACK_DEBIAN_PACKAGE_DEPENDS adduser)
set(CPACK_DEBIAN_COMPRESSION_TYPE xz)
set(CPACK_DEBIAN_PACKAGE_CONTROL_STRICT_PERMISSION ON)
set(CPACK_DEBIAN_PACKAGE_CONTROL_EXTRA
  ${package}/debian/conffiles ${package}/debian/postinst ${package}/debian/postrm ${package}/debian/prerm)
include(CPack)
