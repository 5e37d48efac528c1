# The CUDA toolkit, if it is there: VASILY_HAVE_CUDA, and the targets CUDA::cudart, CUDA::cublasLt and cuDNN::cudnn. Without
# it everything but libvasily_cuda.so is built, and the program says so when it is asked for a GPU. NCCL, for more than one
# GPU: VASILY_HAVE_NCCL and NCCL::nccl; without it libvasily_cuda.so trains on one.
#
#   -DVASILY_CUDA=OFF                  leaves it out
#   -DVASILY_CUDA=ON                   makes its absence an error
#   -DVASILY_NCCL=OFF or ON            likewise
#   -DVASILY_CUDA_ARCHITECTURES=...    what to build for (default: 80-real;90, the latter also as what a driver compiles
#                                      for later GPUs)
set(VASILY_CUDA "AUTO" CACHE STRING "libvasily_cuda.so: AUTO (where the toolkit is found), ON or OFF")
set(VASILY_NCCL "AUTO" CACHE STRING "Training on several GPUs: AUTO (where NCCL is found), ON or OFF")
set(VASILY_CUDA_ARCHITECTURES "80-real;90" CACHE STRING "GPUs to build kernels for")
set(VASILY_HAVE_CUDA FALSE)
set(VASILY_HAVE_NCCL FALSE)
# Sanitizers and fuzzers look at the kernels under the emulator (tests/emu).
if(VASILY_CUDA STREQUAL "OFF" OR VASILY_SANITIZE OR VASILY_FUZZ)
  return()
endif()

find_program(VASILY_NVCC nvcc HINTS ENV CUDA_HOME ENV CUDA_PATH PATHS /usr/local/cuda PATH_SUFFIXES bin)
if(VASILY_NVCC)
  get_filename_component(toolkit ${VASILY_NVCC} REALPATH)
  get_filename_component(toolkit ${toolkit}/../.. ABSOLUTE)
  # Before the language is enabled: "native" would ask a GPU that may not be there.
  set(CMAKE_CUDA_ARCHITECTURES ${VASILY_CUDA_ARCHITECTURES})
  set(CMAKE_CUDA_RUNTIME_LIBRARY Shared)
  set(CMAKE_CUDA_STANDARD 17)
  set(CMAKE_CUDA_COMPILER ${VASILY_NVCC})
  find_path(CUDNN_INCLUDE cudnn.h HINTS ${toolkit}/include PATH_SUFFIXES include)
  find_library(CUDNN_LIBRARY cudnn HINTS ${toolkit}/lib64 ${toolkit}/targets/x86_64-linux/lib PATH_SUFFIXES lib lib64)
endif()
if(NOT VASILY_NVCC OR NOT CUDNN_INCLUDE OR NOT CUDNN_LIBRARY)
  if(VASILY_CUDA STREQUAL "ON")
    message(FATAL_ERROR "VASILY_CUDA=ON: nvcc ${VASILY_NVCC}, cudnn.h ${CUDNN_INCLUDE}, libcudnn ${CUDNN_LIBRARY}")
  endif()
  message(STATUS "No CUDA backend: nvcc or cuDNN is missing (CUDA_HOME and CMAKE_PREFIX_PATH name their places)")
  return()
endif()
enable_language(CUDA)
find_package(CUDAToolkit REQUIRED)
add_library(cuDNN::cudnn UNKNOWN IMPORTED)
set_target_properties(cuDNN::cudnn PROPERTIES IMPORTED_LOCATION ${CUDNN_LIBRARY}
  INTERFACE_INCLUDE_DIRECTORIES ${CUDNN_INCLUDE})
set(VASILY_HAVE_CUDA TRUE)
if(NOT VASILY_NCCL STREQUAL "OFF")
  find_path(NCCL_INCLUDE nccl.h HINTS ${toolkit}/include ENV NCCL_HOME PATH_SUFFIXES include)
  find_library(NCCL_LIBRARY NAMES nccl libnccl.so.2 HINTS ${toolkit}/lib64 ${toolkit}/targets/x86_64-linux/lib ENV NCCL_HOME
    PATH_SUFFIXES lib lib64)
  if(NCCL_INCLUDE AND NCCL_LIBRARY)
    add_library(NCCL::nccl UNKNOWN IMPORTED)
    set_target_properties(NCCL::nccl PROPERTIES IMPORTED_LOCATION ${NCCL_LIBRARY}
      INTERFACE_INCLUDE_DIRECTORIES ${NCCL_INCLUDE})
    set(VASILY_HAVE_NCCL TRUE)
  elseif(VASILY_NCCL STREQUAL "ON")
    message(FATAL_ERROR "VASILY_NCCL=ON: nccl.h ${NCCL_INCLUDE}, libnccl ${NCCL_LIBRARY}")
  else()
    message(STATUS "No NCCL, so no training on several GPUs: nccl.h or libnccl is missing (NCCL_HOME names its place)")
  endif()
endif()
message(STATUS "CUDA backend: toolkit ${CUDAToolkit_VERSION}, for ${CMAKE_CUDA_ARCHITECTURES}, NCCL: ${VASILY_HAVE_NCCL}")
