/* res_internal -- what the loop's room needs of this one besides the public headers. */
#ifndef EBBI_RES_INTERNAL_H
#define EBBI_RES_INTERNAL_H

#include <ebb/fd.h>

/* As ebb_fd_adopt, with the call site to remember. */
enum ebb_err ebbi_fd_adopt_at(ebb_fd *handle, struct ebb_scope *scope, enum ebb_resource_class kind,
                              int fd, const char *note, uintptr_t opened_at) EBB_MUST_CHECK;

/* True when error (an errno) says that descriptors have run out and a full collection, with
 * finalizers, was made in the hope that forgotten ones come back: try once more. */
bool ebbi_fd_make_room(int error);

/* Sets the sentence for a failed system call. what: "open /x", as in "cannot open /x: ...". When
 * descriptors have run out it is EBB_ERR_LIMIT and names the limit and the remedy, else
 * EBB_ERR_SYSTEM. */
enum ebb_err ebbi_fd_refused(int error, const char *what);

#endif
