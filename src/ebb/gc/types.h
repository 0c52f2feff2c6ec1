/* types -- the rows of tbl/types.def, declared; types.c of this folder defines them and makes them known. */
#ifndef EBBI_TYPES_H
#define EBBI_TYPES_H

#include <ebb/mem.h>

#define EBB_TYPE(...) EBB_TYPE_DECLARE(__VA_ARGS__)
#include "tbl/types.def"

#endif
