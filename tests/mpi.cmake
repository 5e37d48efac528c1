# vasily_mpi_test(NAME TARGET executable RANKS n [ARGS arg...] [LABELS label...] [TIMEOUT seconds] [EXIT code])
#
# A ctest that runs an executable under mpirun on n ranks, more of them than cores if need be. With EXIT the launcher
# must end with exactly that code. The settings make Open MPI start as root, without binding, over shared memory only.
set(VASILY_MPI_ENVIRONMENT
  OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1
  OMPI_MCA_rmaps_base_oversubscribe=1 OMPI_MCA_hwloc_base_binding_policy=none OMPI_MCA_mpi_yield_when_idle=1
  OMPI_MCA_pml=ob1 OMPI_MCA_btl=self,vader OMPI_MCA_btl_vader_single_copy_mechanism=none
  OMPI_MCA_btl_base_warn_component_unused=0 OMPI_MCA_btl_openib_warn_no_device_params_found=0
  OMPI_MCA_oob_tcp_if_include=lo OMPI_MCA_btl_tcp_if_include=lo
  PMIX_MCA_psec=native PMIX_MCA_gds=hash)

function(vasily_mpi_test name)
  cmake_parse_arguments(TEST "" "TARGET;RANKS;TIMEOUT;EXIT" "ARGS;LABELS" ${ARGN})
  if(NOT TEST_TIMEOUT)
    set(TEST_TIMEOUT 180)
  endif()
  set(command ${MPIEXEC_EXECUTABLE} --allow-run-as-root --oversubscribe ${MPIEXEC_NUMPROC_FLAG} ${TEST_RANKS}
    $<TARGET_FILE:${TEST_TARGET}> ${TEST_ARGS})
  if(TEST_EXIT)
    set(command sh -c "\"$@\"; code=$?; echo exit $code; test $code -eq ${TEST_EXIT}" sh ${command})
  endif()
  add_test(NAME ${name} COMMAND ${command})
  set(environment ${VASILY_MPI_ENVIRONMENT})
  if(VASILY_SANITIZE MATCHES "thread")
    list(APPEND environment "TSAN_OPTIONS=suppressions=${CMAKE_SOURCE_DIR}/tests/tsan.supp ignore_noninstrumented_modules=1")
  elseif(VASILY_SANITIZE MATCHES "address")
    # Open MPI keeps memory till the process ends.
    list(APPEND environment "LSAN_OPTIONS=suppressions=${CMAKE_SOURCE_DIR}/tests/lsan.supp:print_suppressions=0")
  endif()
  set_tests_properties(${name} PROPERTIES TIMEOUT ${TEST_TIMEOUT} PROCESSORS ${TEST_RANKS} LABELS "mpi;${TEST_LABELS}"
    ENVIRONMENT "${environment}")
endfunction()
