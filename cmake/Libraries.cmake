# The libraries the house stands on, as imported targets. Each room names its own (docs/house.md lists which).
find_package(PkgConfig REQUIRED)
find_package(Threads REQUIRED)
find_package(OpenMP REQUIRED COMPONENTS C)
find_package(MPI REQUIRED COMPONENTS C)

pkg_check_modules(YAML REQUIRED IMPORTED_TARGET yaml-0.1)
pkg_check_modules(JSONC REQUIRED IMPORTED_TARGET json-c)
pkg_check_modules(XXHASH REQUIRED IMPORTED_TARGET libxxhash)
pkg_check_modules(ARCHIVE REQUIRED IMPORTED_TARGET libarchive)
pkg_check_modules(HDF5 REQUIRED IMPORTED_TARGET hdf5-serial)
pkg_check_modules(PNG REQUIRED IMPORTED_TARGET libpng)
pkg_check_modules(JPEG REQUIRED IMPORTED_TARGET libjpeg)
pkg_check_modules(WEBP REQUIRED IMPORTED_TARGET libwebp)
pkg_check_modules(CURL REQUIRED IMPORTED_TARGET libcurl)
pkg_check_modules(PROTOBUF_C REQUIRED IMPORTED_TARGET libprotobuf-c)
find_program(PROTOC_C protoc-c REQUIRED)

# Its pkg-config file asks for protobuf on Debian 13, which its headers do not need: found by hand.
find_path(SENTENCEPIECE_INCLUDE sentencepiece_processor.h REQUIRED)
find_library(SENTENCEPIECE_LIBRARY sentencepiece REQUIRED)
get_filename_component(SENTENCEPIECE_FOLDER ${SENTENCEPIECE_LIBRARY} DIRECTORY)
file(STRINGS ${SENTENCEPIECE_FOLDER}/pkgconfig/sentencepiece.pc SENTENCEPIECE_VERSION REGEX "^Version:")
string(REGEX REPLACE "^Version: *" "" SENTENCEPIECE_VERSION "${SENTENCEPIECE_VERSION}")
add_library(SentencePiece::sentencepiece UNKNOWN IMPORTED)
set_target_properties(SentencePiece::sentencepiece PROPERTIES IMPORTED_LOCATION ${SENTENCEPIECE_LIBRARY}
  INTERFACE_INCLUDE_DIRECTORIES ${SENTENCEPIECE_INCLUDE})

# oneDNN's own CMake package asks for OpenCL on Debian 12, which the CPU does not need: found by hand. Its C API differs
# between versions 2 and 3 (engine/cpu/onednn2.c, onednn3.c).
find_path(DNNL_INCLUDE oneapi/dnnl/dnnl_version.h REQUIRED)
find_library(DNNL_LIBRARY dnnl REQUIRED)
file(STRINGS ${DNNL_INCLUDE}/oneapi/dnnl/dnnl_version.h DNNL_MAJOR REGEX "^#define DNNL_VERSION_MAJOR")
string(REGEX REPLACE "^#define DNNL_VERSION_MAJOR +" "" DNNL_MAJOR "${DNNL_MAJOR}")
if(NOT DNNL_MAJOR MATCHES "^[23]$")
  message(FATAL_ERROR "oneDNN ${DNNL_MAJOR} in ${DNNL_INCLUDE}: versions 2 and 3 are known")
endif()
add_library(DNNL::dnnl UNKNOWN IMPORTED)
set_target_properties(DNNL::dnnl PROPERTIES IMPORTED_LOCATION ${DNNL_LIBRARY}
  INTERFACE_INCLUDE_DIRECTORIES ${DNNL_INCLUDE})

# For the makers of shards in tools/ only.
pkg_check_modules(HARFBUZZ REQUIRED IMPORTED_TARGET harfbuzz)
pkg_check_modules(EXPAT REQUIRED IMPORTED_TARGET expat)
