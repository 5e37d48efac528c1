# Flags for every target: strict C11, warnings, sanitizers. No -march: one binary runs on any x86-64; the kernels that
# want wider vectors are compiled once per instruction set by engine/cpu/CMakeLists.txt.
add_library(vasily_flags INTERFACE)
target_compile_definitions(vasily_flags INTERFACE _GNU_SOURCE)
target_compile_options(vasily_flags INTERFACE # nvcc has its own: engine/cuda/CMakeLists.txt
  "$<$<COMPILE_LANGUAGE:C,CXX>:-Wall;-Wextra;-Wshadow;-Wpointer-arith;-Wvla;-Wno-unused-parameter;-fno-math-errno>"
  $<$<COMPILE_LANGUAGE:C>:-Wstrict-prototypes -Wmissing-prototypes -Wold-style-definition>)
if(CMAKE_C_COMPILER_ID STREQUAL "GNU")
  # Its verdict depends on what was inlined, so it differs between versions and distributions.
  target_compile_options(vasily_flags INTERFACE $<$<COMPILE_LANGUAGE:C,CXX>:-Wno-format-truncation>)
endif()
if(VASILY_WERROR)
  target_compile_options(vasily_flags INTERFACE $<$<COMPILE_LANGUAGE:C,CXX>:-Werror>)
endif()
if(VASILY_SANITIZE)
  target_compile_options(vasily_flags INTERFACE -fsanitize=${VASILY_SANITIZE} -fno-omit-frame-pointer)
  target_link_options(vasily_flags INTERFACE -fsanitize=${VASILY_SANITIZE})
  if(VASILY_SANITIZE MATCHES "undefined")
    target_compile_options(vasily_flags INTERFACE -fno-sanitize-recover=undefined)
  endif()
endif()
if(VASILY_FUZZ)
  target_compile_options(vasily_flags INTERFACE -fsanitize=fuzzer-no-link)
endif()
set(CMAKE_C_FLAGS_RELEASE "-O3 -g1")
set(CMAKE_CXX_FLAGS_RELEASE "-O2 -g1")
