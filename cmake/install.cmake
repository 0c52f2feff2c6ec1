# What `cmake --install` puts where: the daemon, ebb-adopt and what it preloads, the library with its headers, the profiles, and how to find them.
include(GNUInstallDirs)
include(CMakePackageConfigHelpers)
set(EBB_CMAKE_DIR ${CMAKE_INSTALL_LIBDIR}/cmake/ebb)

install(TARGETS ebbd ebb-adopt RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
install(TARGETS ebb-adopt-heap LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR}/ebb)
install(TARGETS ebb ebb_shared EXPORT ebbTargets ARCHIVE DESTINATION ${CMAKE_INSTALL_LIBDIR}
    LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR}
    INCLUDES DESTINATION ${CMAKE_INSTALL_INCLUDEDIR})
install(DIRECTORY include/ebb DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}
    FILES_MATCHING PATTERN "*.h" PATTERN "*.def")
install(DIRECTORY gc-config/ DESTINATION ${CMAKE_INSTALL_DATADIR}/ebb/gc-config FILES_MATCHING PATTERN "*.conf")
install(FILES deploy/ebbd.service DESTINATION ${CMAKE_INSTALL_DATADIR}/ebb/systemd)
install(DIRECTORY deploy/grafana deploy/prometheus deploy/logstash DESTINATION ${CMAKE_INSTALL_DATADIR}/ebb)

# From where the file lies, so that it holds for every prefix that cmake --install is given.
file(RELATIVE_PATH EBB_PREFIX_FROM_PC /${CMAKE_INSTALL_LIBDIR}/pkgconfig /)
configure_file(cmake/ebb.pc.in ebb.pc @ONLY)
configure_file(cmake/ebbConfig.cmake.in ebbConfig.cmake @ONLY)
write_basic_package_version_file(ebbConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${CMAKE_BINARY_DIR}/ebb.pc DESTINATION ${CMAKE_INSTALL_LIBDIR}/pkgconfig)
install(FILES ${CMAKE_BINARY_DIR}/ebbConfig.cmake ${CMAKE_BINARY_DIR}/ebbConfigVersion.cmake
    DESTINATION ${EBB_CMAKE_DIR})
install(EXPORT ebbTargets NAMESPACE ebb:: DESTINATION ${EBB_CMAKE_DIR})
