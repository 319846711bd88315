# freshet_embed_files(OUT FILE...): writes OUT, the .cc behind pipeline/dashboard/embedded.h, with the content of each file under its
# name. The assembler takes the bytes in as they are, whatever their number.
function(freshet_embed_files out)
  set(code "// Written by cmake/EmbedFiles.cmake.\n#include \"pipeline/dashboard/embedded.h\"\n\n")
  set(table "")
  set(number 0)
  foreach(file ${ARGN})
    get_filename_component(path ${file} ABSOLUTE)
    get_filename_component(name ${file} NAME)
    set(symbol freshet_embedded_${number})
    string(APPEND code "asm(R\"(.pushsection .rodata,\"a\"\n.hidden ${symbol}\n.hidden ${symbol}_end\n"
      ".globl ${symbol}\n.globl ${symbol}_end\n${symbol}: .incbin \"${path}\"\n${symbol}_end:\n.byte 0\n.popsection)\");\n"
      "extern \"C\" const char ${symbol}[], ${symbol}_end[];\n")
    string(APPEND table "      {\"${name}\", {${symbol}, ${symbol}_end}},\n")
    list(APPEND paths ${path})
    math(EXPR number "${number} + 1")
  endforeach()
  string(APPEND code "\nnamespace freshet {\n\nstd::span<const EmbeddedFile> EmbeddedFiles() {\n"
    "  static const EmbeddedFile files[] = {\n${table}  };\n  return files;\n}\n\n}  // namespace freshet\n")
  file(CONFIGURE OUTPUT ${out} CONTENT "${code}" @ONLY)
  set_source_files_properties(${out} PROPERTIES OBJECT_DEPENDS "${paths}")
endfunction()
