/* utf8 -- what may be said in JSON and in labels. */
#ifndef EBBI_BASE_UTF8_H
#define EBBI_BASE_UTF8_H

#include <stddef.h>

/* Length of the well-formed character (Unicode 15, table 3-7) that begins at bytes, 0 for none. */
size_t ebbi_utf8_length(const char *bytes, size_t length);

#endif
