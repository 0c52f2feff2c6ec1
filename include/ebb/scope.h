/* scope -- one place to let go of many things: it remembers each resource as it opens and closes
 * them newest first.
 *
 * 1. A resource belongs to exactly one scope from open to close.
 * 2. Closing never fails and never allocates.
 * 3. A scope that is collected while something in it is open is a bug: it is closed by the
 * finalizer, counted (ebb_resources_forgotten_total) and named in the log, by resource class and
 * the call site that opened it. */
#ifndef EBB_SCOPE_H
#define EBB_SCOPE_H

#include <sys/cdefs.h>

__BEGIN_DECLS

struct ebb_scope; /* OWNED; ebb_scope_close releases it */

/* name: static text that the inventory shows as owner. */
struct ebb_scope *ebb_scope_new(const char *name);
/* The same, NULL when memory is gone: for what a peer starts. */
struct ebb_scope *ebb_scope_try(const char *name);
/* Closes everything in it, newest first, and the scope itself. NULL is fine. */
void ebb_scope_close(struct ebb_scope *scope);

__END_DECLS

#endif
