/* table -- every open resource of the process, one entry each; the other files of this room only.
 */
#ifndef EBBI_RES_TABLE_H
#define EBBI_RES_TABLE_H

#include <ebb/fd.h>

struct ebb_scope {
    const char *name;
    uint32_t newest; /* entry, 0 for none; under the table's lock */
};

/* What an entry holds: enough to close it and to tell of it. */
struct ebbi_resource {
    enum ebb_resource_class kind;
    int fd;            /* -1: none */
    uint64_t at, size; /* address and bytes, or process, or thread */
    uintptr_t opened_at;
    char note[48];
};

/* Enters a resource. Fails: false when the table is full or cannot grow; it is then untouched. */
bool ebbi_table_enter(ebb_fd *handle, struct ebb_scope *scope,
                      const struct ebbi_resource *resource);

enum ebbi_leave {
    EBBI_NOTHING, /* a stale handle, an empty scope */
    EBBI_PINNED,  /* taken out; whoever has the last pin closes it */
    EBBI_LEFT,    /* taken out; closing it is the caller's */
};
enum ebbi_leave ebbi_table_leave(ebb_fd handle, struct ebbi_resource *was);
/* The same for the newest entry of the scope. */
enum ebbi_leave ebbi_table_leave_newest(struct ebb_scope *scope, struct ebbi_resource *was);
/* A copy of what a handle stands for; false when stale. */
bool ebbi_table_read(ebb_fd handle, struct ebbi_resource *now);
/* Moves one entry to another scope, as its newest; false when the handle is stale. */
bool ebbi_table_move(ebb_fd handle, struct ebb_scope *to);

/* Closes what left the table, as its class's row says (close.c). */
void ebbi_resource_close(const struct ebbi_resource *was);
/* Enters it, or closes it and sets the sentence. opened_at and note are filled in. */
enum ebb_err ebbi_resource_keep(ebb_fd *handle, struct ebb_scope *scope,
                                struct ebbi_resource *resource, const char *note,
                                uintptr_t opened_at) EBB_MUST_CHECK;

#endif
