# Writes FILES (a list of paths) as C arrays into OUTPUT: "index.html" becomes PREFIX_index_html.
#   cmake -DOUTPUT=... -DPREFIX=... -DFILES=a;b -P embed.cmake
set(text "/* Generated from ${PREFIX}/; see cmake/embed.cmake. */\n#ifndef EBBI_${PREFIX}_FILES_H\n#define EBBI_${PREFIX}_FILES_H\n")
foreach(file ${FILES})
    get_filename_component(name ${file} NAME)
    string(MAKE_C_IDENTIFIER "${PREFIX}_${name}" id)
    file(READ ${file} bytes HEX)
    string(REGEX REPLACE "(................................)" "\\1\n" bytes "${bytes}")
    string(REGEX REPLACE "([0-9a-f][0-9a-f])" "0x\\1," bytes "${bytes}")
    string(APPEND text "static const unsigned char ${id}[] = {\n${bytes}\n};\n")
endforeach()
file(WRITE ${OUTPUT} "${text}#endif\n")
