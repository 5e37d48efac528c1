# Makes the source of a stand-in for the driver's library: cmake -DSTUB=.../libcuda.so -DNM=nm -DOUT=libcuda.c -P libcuda.cmake
#
# cuDNN compiles kernels for a device that is only described, but asks the driver a few things first. The toolkit's own
# stub says "this is a stub" (34) to everything; this one, made of the names in it, answers that there is a driver and
# no device, which is enough. Only tests of plans put it in the loader's way.
execute_process(COMMAND ${NM} -D --defined-only ${STUB} OUTPUT_VARIABLE symbols RESULT_VARIABLE failed)
if(failed)
  message(FATAL_ERROR "${NM} cannot read ${STUB}")
endif()
string(REGEX MATCHALL " T cu[A-Za-z0-9_]+" names "${symbols}")
set(text "#include <stddef.h>
int cuInit(unsigned flags) { return (void)flags, 0; }
int cuDriverGetVersion(int *version) { return *version = 13000, 0; }
int cuDeviceGetCount(int *count) { return *count = 0, 0; }
int cuDeviceGet(int *device, int ordinal) { return *device = ordinal, 0; }
int cuDeviceGetAttribute(int *value, int attribute, int device) { return (void)attribute, (void)device, *value = 1, 0; }
int cuDeviceGetName(char *name, int size, int device) { return (void)device, size > 0 ? name[0] = 0 : 0, 0; }
int cuDeviceTotalMem_v2(size_t *bytes, int device) { return (void)device, *bytes = (size_t)1 << 36, 0; }
int cuCtxGetCurrent(void **context) { return *context = NULL, 0; }
")
foreach(name ${names})
  string(REPLACE " T " "" name "${name}")
  if(NOT text MATCHES "int ${name}\\(")
    string(APPEND text "int ${name}(void) { return 34; }\n")
  endif()
endforeach()
file(WRITE ${OUT} "${text}")
