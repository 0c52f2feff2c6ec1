/* names -- functions, lines and variables by address, from debug information; internal to gc/. */
#ifndef EBBI_GC_NAMES_H
#define EBBI_GC_NAMES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum names_of {
    NAME_OF_FUNCTION, /* "server_open" */
    NAME_OF_LINE,     /* "server.c:107" */
    NAME_OF_VARIABLE, /* "rows", "rows+16" */
};

/* False, and an empty text, where nobody knows one, or the copy that would know has ended. When:
 * between ebbi_names_begin and ebbi_names_end, one thread at a time. */
bool ebbi_name_ask(enum names_of what, uintptr_t at, char *text, size_t size);
void ebbi_names_begin(void);
void ebbi_names_end(void);

/* In a copy of the process: it reads debug information itself from now on. */
void ebbi_names_here(void);

#endif
