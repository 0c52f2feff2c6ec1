/* types -- the library's own object types, by name: ebb_type_scope and so on. */
#ifndef EBBI_GC_TYPES_H
#define EBBI_GC_TYPES_H

#include <ebb/mem.h>

#define EBB_TYPE(...) EBB_TYPE_DECLARE(__VA_ARGS__)
#include "tbl/types.def"

/* The type with this id, or NULL. */
struct ebb_type *ebbi_type_at(uint32_t id);
void ebbi_types_add_own(void);

#endif
