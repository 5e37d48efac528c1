# What can be said of the CUDA backend without a device and without the emulated one: plans are made for devices that
# are only described (configs/machines/).
if(NOT VASILY_HAVE_CUDA)
  return()
endif()

# A stand-in for the driver's library, in a folder of its own so that nothing else finds it.
find_file(VASILY_CUDA_STUB libcuda.so PATHS ${CUDAToolkit_LIBRARY_DIR}/stubs ${CUDAToolkit_LIBRARY_ROOT}/lib64/stubs
  NO_DEFAULT_PATH)
if(NOT VASILY_CUDA_STUB)
  message(STATUS "No tests of plans: the toolkit has no stubs/libcuda.so")
  return()
endif()
set(driver ${CMAKE_CURRENT_BINARY_DIR}/driver)
add_custom_command(OUTPUT libcuda.c
  COMMAND ${CMAKE_COMMAND} -DSTUB=${VASILY_CUDA_STUB} -DNM=${CMAKE_NM} -DOUT=${CMAKE_CURRENT_BINARY_DIR}/libcuda.c
          -P ${CMAKE_CURRENT_SOURCE_DIR}/libcuda.cmake
  DEPENDS libcuda.cmake ${VASILY_CUDA_STUB} VERBATIM)
add_library(driver_stand_in SHARED ${CMAKE_CURRENT_BINARY_DIR}/libcuda.c)
set_target_properties(driver_stand_in PROPERTIES OUTPUT_NAME cuda SOVERSION 1 LIBRARY_OUTPUT_DIRECTORY ${driver})
set(VASILY_DRIVER_STAND_IN ${driver} CACHE INTERNAL "Folder of the driver's stand-in")

file(GLOB dnn CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/engine/cuda/dnn*.c)
add_executable(plan_shapes plan_shapes.c ${dnn})
target_link_libraries(plan_shapes PRIVATE vasily_flags vasily_engine vasily_base CUDA::cudart cuDNN::cudnn)
add_dependencies(plan_shapes driver_stand_in)
vasily_test(test_dnn SOURCES test_dnn.c ${dnn} ROOMS engine base LIBRARIES CUDA::cudart cuDNN::cudnn
  ARGS ${CMAKE_SOURCE_DIR}/configs/machines/h200.json LABELS slow)
add_dependencies(test_dnn driver_stand_in)
set_tests_properties(test_dnn PROPERTIES ENVIRONMENT_MODIFICATION LD_LIBRARY_PATH=path_list_prepend:${driver})
find_program(BASH bash REQUIRED)
foreach(machine a100 h200)
  add_test(NAME test_dnn_plans_${machine}
    COMMAND ${BASH} ${CMAKE_CURRENT_SOURCE_DIR}/test_plans.sh $<TARGET_FILE:plan_shapes>
            ${CMAKE_SOURCE_DIR}/configs/machines/${machine}.json ${CMAKE_CURRENT_SOURCE_DIR}/shapes.txt ${driver})
  set_tests_properties(test_dnn_plans_${machine} PROPERTIES TIMEOUT 900 LABELS slow)
endforeach()

add_test(NAME test_plan_configs COMMAND ${CMAKE_CURRENT_SOURCE_DIR}/test_plan_configs.sh $<TARGET_FILE:vasily> ${driver})
set_tests_properties(test_plan_configs PROPERTIES TIMEOUT 5400 LABELS slow)
