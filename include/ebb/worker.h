/* worker -- N threads, each with a loop of its own. */
#ifndef EBB_WORKER_H
#define EBB_WORKER_H

#include <ebb/loop.h>
#include <sys/cdefs.h>

__BEGIN_DECLS

struct ebb_workers; /* OWNED; ebb_workers_stop */

/* Starts count threads "NAME-0", "NAME-1", ...; start(index, loop, arg) runs first on each, before
 * its first iteration. */
enum ebb_err ebb_workers_start(struct ebb_workers **workers, const char *name, int count,
                               void (*start)(int index, struct ebb_loop *loop, void *arg),
                               void *arg) EBB_MUST_CHECK;
int ebb_workers_count(const struct ebb_workers *workers);
struct ebb_loop *ebb_worker_loop(const struct ebb_workers *workers, int index);
/* Posts stop(index, arg) to each (NULL: nothing), ends their loops after it, joins the threads. */
void ebb_workers_stop(struct ebb_workers *workers, void (*stop)(int index, void *arg), void *arg);

__END_DECLS

#endif
