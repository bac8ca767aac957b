# What every target of the project shares: language, warnings, sanitizers.
set(CMAKE_C_STANDARD 17)
set(CMAKE_C_STANDARD_REQUIRED ON)
set(CMAKE_C_EXTENSIONS OFF)
set(CMAKE_EXPORT_COMPILE_COMMANDS ON)
# All programs of a build in one place: `flotilla` finds its ranks beside itself.
set(CMAKE_RUNTIME_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR})

option(FLOTILLA_WERROR "warnings are errors" OFF)
set(FLOTILLA_SANITIZE "" CACHE STRING "sanitizers for every target, e.g. address,undefined or thread")

add_compile_definitions(_GNU_SOURCE FLOTILLA_VERSION="${PROJECT_VERSION}")
# fmaf stays one rounding and a*b+c stays two: the bits of a result are decided by the source,
# never by what the compiler finds convenient to fuse.
add_compile_options(-Wall -Wextra -Wconversion -Wshadow -Wstrict-prototypes -ffp-contract=off)
if(FLOTILLA_WERROR)
  add_compile_options(-Werror)
endif()
if(FLOTILLA_SANITIZE)
  add_compile_options(-fsanitize=${FLOTILLA_SANITIZE} -fno-omit-frame-pointer -g)
  add_link_options(-fsanitize=${FLOTILLA_SANITIZE})
  if(FLOTILLA_SANITIZE MATCHES "undefined")
    add_compile_options(-fno-sanitize-recover=undefined)
  endif()
endif()
option(FLOTILLA_FUZZ "build the fuzzers (clang only, see tests/fuzz/run)" OFF)
if(FLOTILLA_FUZZ)
  add_compile_options(-fsanitize=fuzzer-no-link,address,undefined -fno-sanitize-recover=undefined -g)
  add_link_options(-fsanitize=address,undefined)
endif()
include_directories(${CMAKE_SOURCE_DIR})
