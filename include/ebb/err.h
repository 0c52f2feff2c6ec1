/* err -- what the world may answer: a code to branch on, a sentence for the person.
 *
 * A function that can fail because of the world returns enum ebb_err; its sentence (which names the
 * thing and the remedy) waits in ebb_err_text() of the same thread until the next failure there. */
#ifndef EBB_ERR_H
#define EBB_ERR_H

#include <sys/cdefs.h>

__BEGIN_DECLS

enum ebb_err {
    EBB_OK = 0,
    EBB_ERR_USAGE,  /* a flag, setting or profile value that cannot be taken */
    EBB_ERR_SYSTEM, /* the operating system refused; errno is in the text */
    EBB_ERR_BUSY,   /* an address or path is in use by somebody else */
    EBB_ERR_LIMIT,  /* a limit (of ours or the system's) is reached */
    EBB_ERR_MEMORY, /* a size chosen by a peer could not be had */
    EBB_ERR_STALE,  /* a handle whose resource is closed */
};

#define EBB_MUST_CHECK __attribute__((warn_unused_result))

/* Remembers the sentence for this thread and returns code. Cut at 511 bytes. */
enum ebb_err ebb_err_set(enum ebb_err code, const char *format, ...)
    __attribute__((format(printf, 2, 3)));

/* The sentence of this thread's latest failure, or "". Valid until the next failure on this thread.
 */
const char *ebb_err_text(void);

__END_DECLS

#endif
