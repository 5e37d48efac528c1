# The collectives, alone and on several ranks.
vasily_test(test_comm SOURCES test_comm.c ROOMS engine ARGS 1 LABELS tsan)
foreach(ranks 1 2 3 4)
  set(labels slow)
  if(ranks LESS 3)
    set(labels tsan)
  endif()
  vasily_mpi_test(test_comm_${ranks} TARGET test_comm RANKS ${ranks} ARGS ${ranks} LABELS ${labels})
endforeach()

vasily_test(test_comm_failure SOURCES test_comm_failure.c ROOMS engine ARGS alone)
add_test(NAME test_comm_failure_no_pmi COMMAND test_comm_failure no-pmi)
set_tests_properties(test_comm_failure_no_pmi PROPERTIES TIMEOUT 60 LABELS mpi
  ENVIRONMENT "${VASILY_MPI_TEST_ENVIRONMENT}")
vasily_mpi_test(test_comm_failure_alone_1 TARGET test_comm_failure RANKS 1 ARGS alone TIMEOUT 60)
foreach(case count kind root early)
  vasily_mpi_test(test_comm_failure_${case} TARGET test_comm_failure RANKS 2 ARGS ${case} LABELS tsan TIMEOUT 60)
endforeach()
vasily_mpi_test(test_comm_failure_count_3 TARGET test_comm_failure RANKS 3 ARGS count LABELS slow TIMEOUT 60)
vasily_mpi_test(test_comm_failure_abort TARGET test_comm_failure RANKS 2 ARGS abort EXIT 77 TIMEOUT 60)

# What is recorded of them, and the watchdog.
vasily_test(test_watch SOURCES test_watch.c ROOMS engine base LABELS tsan)
add_executable(watchdog_ranks watchdog_ranks.c)
target_link_libraries(watchdog_ranks PRIVATE vasily_engine vasily_base vasily_flags)
add_dependencies(tsan_tests watchdog_ranks)
foreach(choice short rest)
  add_test(NAME test_watchdog_${choice} COMMAND ${CMAKE_CURRENT_SOURCE_DIR}/test_watchdog.sh
    $<TARGET_FILE:watchdog_ranks> ${choice})
  # They wait most of the time, so others may run beside.
  set_tests_properties(test_watchdog_${choice} PROPERTIES TIMEOUT 900 PROCESSORS 1
    ENVIRONMENT "${VASILY_MPI_TEST_ENVIRONMENT}")
endforeach()
set_tests_properties(test_watchdog_short PROPERTIES LABELS "tsan;mpi")
set_tests_properties(test_watchdog_rest PROPERTIES LABELS "slow;mpi")
