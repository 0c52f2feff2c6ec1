/* types -- all object types of the process, the library's and the program's.
 *
 * A type is a static row that somebody's .def table made; here it gets its number, which every
 * object's header carries.
 * 1. Numbers start at 1 and are never taken back; 0 in a header means "not ours".
 * 2. Rows are added at start, before threads; afterwards the array is only read. */
#include "gc/types.h"
#include <ebb/assert.h>

#define EBB_TYPE(name_, scan_, lifetime_, what_)                                                   \
    struct ebb_type ebbi_type_##name_ = {                                                          \
        .name = #name_, .what = what_, .scan = scan_, .lifetime = lifetime_};
#include "tbl/types.def"

enum { TYPES_MAX = 1024 };

static struct ebb_type *types[TYPES_MAX];
static uint32_t types_count;

void ebb_types_add(struct ebb_type *const *rows, size_t count) {
    for (size_t i = 0; i < count; i++) {
        if (rows[i]->id != 0)
            continue;
        ebb_assert(types_count + 1 < TYPES_MAX, "%u object types: no room for %s", types_count,
                   rows[i]->name);
        rows[i]->id = ++types_count;
        types[rows[i]->id] = rows[i];
        if (types_count > 1)
            types[types_count - 1]->next = rows[i];
    }
}

void ebbi_types_add_own(void) {
    static struct ebb_type *const own[] = {
#define EBB_TYPE(name, ...) &ebbi_type_##name,
#include "tbl/types.def"
    };
    ebb_types_add(own, sizeof own / sizeof *own);
}

struct ebb_type *ebb_types_first(void) {
    return types[1];
}

struct ebb_type *ebbi_type_at(uint32_t id) {
    return id > 0 && id <= types_count ? types[id] : NULL;
}
