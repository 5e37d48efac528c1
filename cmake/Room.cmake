# vasily_room(NAME USES room... LIBRARIES target... [SOURCES file...])
#
# Makes the static library vasily_NAME from the folder's *.c files (and *.cc where a shim is needed), compiled so that
# only the headers of the rooms in USES can be included: each room's headers are reached through a folder of its own in
# the build tree that holds one link, NAME -> source folder.
function(vasily_room name)
  cmake_parse_arguments(ROOM "" "" "USES;LIBRARIES;SOURCES" ${ARGN})
  set(gate ${CMAKE_BINARY_DIR}/rooms/${name})
  file(MAKE_DIRECTORY ${gate})
  file(CREATE_LINK ${CMAKE_SOURCE_DIR}/${name} ${gate}/${name} SYMBOLIC)
  if(NOT ROOM_SOURCES)
    file(GLOB ROOM_SOURCES CONFIGURE_DEPENDS ${CMAKE_CURRENT_SOURCE_DIR}/*.c ${CMAKE_CURRENT_SOURCE_DIR}/*.cc)
  endif()
  add_library(vasily_${name} STATIC ${ROOM_SOURCES})
  target_include_directories(vasily_${name} PUBLIC ${gate})
  target_link_libraries(vasily_${name} PUBLIC m PRIVATE vasily_flags ${ROOM_LIBRARIES})
  foreach(lower ${ROOM_USES})
    target_link_libraries(vasily_${name} PUBLIC vasily_${lower})
  endforeach()
endfunction()
