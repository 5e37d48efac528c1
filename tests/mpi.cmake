# What the sanitizers must know of Open MPI, for every test that starts it.
set(VASILY_MPI_TEST_ENVIRONMENT "")
if(VASILY_SANITIZE MATCHES "thread")
  list(APPEND VASILY_MPI_TEST_ENVIRONMENT
    "TSAN_OPTIONS=suppressions=${CMAKE_SOURCE_DIR}/tests/tsan.supp ignore_noninstrumented_modules=1")
elseif(VASILY_SANITIZE MATCHES "address")
  # Open MPI keeps memory till the process ends.
  list(APPEND VASILY_MPI_TEST_ENVIRONMENT "ASAN_OPTIONS=fast_unwind_on_malloc=0"
    "LSAN_OPTIONS=suppressions=${CMAKE_SOURCE_DIR}/tests/lsan.supp:print_suppressions=0")
endif()

# vasily_mpi_test(NAME TARGET executable RANKS n [ARGS arg...] [LABELS label...] [TIMEOUT seconds] [EXIT code])
#
# A ctest that runs an executable under mpirun on n ranks, more of them than cores if need be. With EXIT the launcher
# must end with exactly that code. launch/mpirun makes Open MPI start as root, without binding, over shared memory.
function(vasily_mpi_test name)
  cmake_parse_arguments(TEST "" "TARGET;RANKS;TIMEOUT;EXIT" "ARGS;LABELS" ${ARGN})
  if(NOT TEST_TIMEOUT)
    set(TEST_TIMEOUT 180)
  endif()
  set(command ${CMAKE_SOURCE_DIR}/launch/mpirun ${TEST_RANKS} $<TARGET_FILE:${TEST_TARGET}> ${TEST_ARGS})
  if(TEST_EXIT)
    set(command sh -c "\"$@\"\ntest $? -eq ${TEST_EXIT}" sh ${command})
  endif()
  add_test(NAME ${name} COMMAND ${command})
  set_tests_properties(${name} PROPERTIES TIMEOUT ${TEST_TIMEOUT} PROCESSORS ${TEST_RANKS} LABELS "mpi;${TEST_LABELS}"
    ENVIRONMENT "${VASILY_MPI_TEST_ENVIRONMENT}")
  if("tsan" IN_LIST TEST_LABELS)
    add_dependencies(tsan_tests ${TEST_TARGET})
  endif()
endfunction()
