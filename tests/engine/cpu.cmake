# The CPU backend: its vector kernels, and every op as on processors with fewer instruction sets.
vasily_test(test_cpu_vector SOURCES test_cpu_vector.c ROOMS engine base)
vasily_test(test_cpu_backend SOURCES test_cpu_backend.c ROOMS engine base)
vasily_test(test_cpu_attention SOURCES test_cpu_attention.c op_cases.c op_case_run.c op_case_device.c ROOMS engine base)
vasily_test(test_cpu_winograd SOURCES test_cpu_winograd.c ROOMS engine base)
vasily_test(test_cpu_packing SOURCES test_cpu_packing.c ROOMS engine base)
vasily_test(test_packing SOURCES test_packing.c ROOMS engine base)
foreach(isa sse2:SSE41 avx2:AVX2 avx512:AVX512_CORE)
  string(REGEX MATCH "^[^:]+" ours ${isa})
  string(REGEX MATCH "[^:]+$" onednn ${isa})
  add_test(NAME test_ops_backends_${ours} COMMAND test_ops_backends cpu 2)
  add_test(NAME test_cpu_winograd_${ours} COMMAND test_cpu_winograd)
  add_test(NAME test_packing_${ours} COMMAND test_packing)
  set_tests_properties(test_ops_backends_${ours} test_cpu_winograd_${ours} test_packing_${ours} PROPERTIES
    ENVIRONMENT "OMP_WAIT_POLICY=passive;VASILY_ISA=${ours};DNNL_MAX_CPU_ISA=${onednn};ONEDNN_MAX_CPU_ISA=${onednn}")
endforeach()
# With the sanitizers: what this machine runs anyway is tried by test_ops_backends_cpu_2, and SSE2 takes minutes.
set_tests_properties(test_ops_backends_sse2 test_ops_backends_avx512 PROPERTIES LABELS slow)
