/* types -- the library's own object types, by name: ebbi_type_scope and so on, so that a program
 * may have types of these names. */
#ifndef EBBI_GC_TYPES_H
#define EBBI_GC_TYPES_H

#include <ebb/mem.h>

#define EBB_TYPE(name, ...) extern struct ebb_type ebbi_type_##name;
#include "tbl/types.def"

/* The type with this id, or NULL. */
struct ebb_type *ebbi_type_at(uint32_t id);
void ebbi_types_add_own(void);

#endif
