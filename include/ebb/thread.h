/* thread -- threads that the collector knows. A thread started in any other way must not touch
 * collected memory. */
#ifndef EBB_THREAD_H
#define EBB_THREAD_H

#include <ebb/err.h>
#include <pthread.h>
#include <stdbool.h>
#include <sys/cdefs.h>

__BEGIN_DECLS

struct ebb_thread; /* OWNED; ebb_thread_join releases it */

/* Starts run(arg) in a new thread named name (15 bytes shown by the system). arg is held until it
 * ends. */
enum ebb_err ebb_thread_start(struct ebb_thread **thread, const char *name, void (*run)(void *),
                              void *arg) EBB_MUST_CHECK;
void ebb_thread_join(struct ebb_thread *thread);

/* A word of this thread's that the collector scans, for what would otherwise sit in thread-local
 * storage. NULL on a thread that ebb did not start (but the main thread has one). */
void **ebb_thread_slot(void);

/* wait(arg), which sleeps and touches no collected memory: the collector need not wake the thread
 * to stop it. Returns after a collection that runs just then. */
void ebb_thread_sleep(void (*wait)(void *), void *arg);

/* The collector stops threads with SIGSTKFLT and SIGURG, which
 * nobody else may take, and no thread that it knows may block. */
bool ebb_signal_is_collectors(int number);

/* For a thread that a library started: make it known to the collector, and forget it again. */
void ebb_thread_register(void);
void ebb_thread_unregister(void);

__END_DECLS

#endif
