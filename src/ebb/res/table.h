/* table -- every open resource of the process, one entry each; the other files of this room only.
 */
#ifndef EBBI_RES_TABLE_H
#define EBBI_RES_TABLE_H

#include <ebb/fd.h>

struct ebb_scope {
    const char *name;
    uint32_t newest; /* entry, 0 for none; under the table's lock */
};

/* What an entry held when it left the table: enough to close it and to tell of it. */
struct ebbi_resource {
    enum ebb_resource_class kind;
    int fd;
    uintptr_t opened_at;
    char note[48];
};

/* Enters fd. Fails: false when the table is full or cannot grow; fd is then untouched. */
bool ebbi_table_enter(ebb_fd *handle, struct ebb_scope *scope, enum ebb_resource_class kind, int fd,
                      const char *note, uintptr_t opened_at);
/* Takes one entry out; false when the handle is stale. Closing the descriptor is the caller's. */
bool ebbi_table_leave(ebb_fd handle, struct ebbi_resource *was);
/* Takes the newest entry of the scope out; false when the scope is empty. */
bool ebbi_table_leave_newest(struct ebb_scope *scope, struct ebbi_resource *was);
/* Moves one entry to another scope, as its newest; false when the handle is stale. */
bool ebbi_table_move(ebb_fd handle, struct ebb_scope *to);

/* Closes what left the table. */
void ebbi_resource_close(const struct ebbi_resource *was);

#endif
