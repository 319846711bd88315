# Run by CPack on the tree that becomes the package: what belongs to the system rather than to the program.
set(tree ${CPACK_TEMPORARY_INSTALL_DIRECTORY}/ALL_COMPONENTS_IN_ONE)
cmake_path(GET CMAKE_CURRENT_LIST_DIR PARENT_PATH source)
set(package ${source}/deploy/package)
set(documents ${tree}/usr/share/doc/freshet)
file(COPY ${package}/freshet.yaml DESTINATION ${tree}/etc/freshet)
file(COPY ${package}/freshet.service DESTINATION ${tree}/usr/lib/systemd/system)
file(COPY ${package}/debian/copyright DESTINATION ${documents})
file(REMOVE ${documents}/LICENSE)  # `copyright` says where Debian has it

# Debian's own form, beside CHANGELOG.md; SOURCE_DATE_EPOCH fixes the time.
string(TIMESTAMP now "%a, %d %b %Y %H:%M:%S +0000" UTC)
file(WRITE ${documents}/changelog "freshet (${CPACK_PACKAGE_VERSION}) unstable; urgency=medium\n
  * See CHANGELOG.md.\n\n -- ${CPACK_PACKAGE_CONTACT}  ${now}\n")
execute_process(COMMAND python3 -B ${package}/sbom.py ${tree}/usr/bin/freshet ${CPACK_PACKAGE_VERSION}
  OUTPUT_FILE ${documents}/sbom.cdx.json COMMAND_ERROR_IS_FATAL ANY)
execute_process(COMMAND gzip -9n ${documents}/changelog COMMAND_ERROR_IS_FATAL ANY)
