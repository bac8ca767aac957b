# Turns a file into a C array: cmake -DINPUT=f -DOUTPUT=f.c -DNAME=symbol -P embed.cmake
# Defines `const char NAME[]` (NUL-terminated) and `const unsigned long NAME_bytes` (without the NUL).
file(READ ${INPUT} hex HEX)
string(LENGTH "${hex}" digits)
math(EXPR bytes "${digits} / 2")
string(REGEX REPLACE "([0-9a-f][0-9a-f])" "0x\\1," array "${hex}")
file(WRITE ${OUTPUT} "extern const char ${NAME}[];\nextern const unsigned long ${NAME}_bytes;\n"
  "const char ${NAME}[] = {${array}0};\nconst unsigned long ${NAME}_bytes = ${bytes};\n")
