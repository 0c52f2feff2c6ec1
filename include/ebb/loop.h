/* loop -- iterations of one thread: descriptors that became ready, timers, work posted by other
 * threads.
 *
 * One thread runs a loop; watches and timers of a loop are touched by that thread only (before
 * ebb_loop_run, by the thread that makes them). ebb_loop_post and ebb_loop_stop may be called from
 * anywhere. Finalizers run on the loop that asked for them, between iterations. */
#ifndef EBB_LOOP_H
#define EBB_LOOP_H

#include <ebb/fd.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/cdefs.h>

__BEGIN_DECLS

struct ebb_loop;   /* OWNED; ebb_loop_close */
struct ebb_watch;  /* OWNED; ebb_watch_close */
struct ebb_timer;  /* OWNED; ebb_timer_close */
struct ebb_signal; /* OWNED; ebb_signal_close */

enum { EBB_READ = 1, EBB_WRITE = 2 };

/* name: static text. Fails: EBB_ERR_SYSTEM, EBB_ERR_LIMIT. */
enum ebb_err ebb_loop_new(struct ebb_loop **loop, const char *name) EBB_MUST_CHECK;
/* Iterates until ebb_loop_stop. What was posted before the stop has run when it returns. */
void ebb_loop_run(struct ebb_loop *loop);
void ebb_loop_stop(struct ebb_loop *loop);
void ebb_loop_close(struct ebb_loop *loop);
/* Version of the libevent that loops run on. */
const char *ebb_loop_libevent_version(void);
/* Runs fn(arg) on the loop's thread in a coming iteration, in the order posted. arg is held until
 * then. Any thread. What is posted after the stop is dropped when the loop is closed. */
void ebb_loop_post(struct ebb_loop *loop, void (*fn)(void *), void *arg);
/* The same for an arg that somebody must release: either fn(arg) runs on the loop's thread, or
 * drop(arg) where it will not any more: on the thread that closes the loop, or on this one when it
 * is closed already. */
void ebb_loop_post_or_drop(struct ebb_loop *loop, void (*fn)(void *), void (*drop)(void *),
                           void *arg);
/* The same, false when memory is gone: for what a peer starts. */
bool ebb_loop_post_try(struct ebb_loop *loop, void (*fn)(void *), void *arg);
/* From now on this loop runs finalizers and tells leaks between its iterations. One loop of the
 * process.
 */
void ebb_loop_finalize_here(struct ebb_loop *loop);
/* Time of this iteration (ebb_clock_ns): the clock is read once an iteration, when first asked.
 * When: the loop's thread. */
uint64_t ebb_loop_now_ns(const struct ebb_loop *loop);

/* Calls fn when handle is ready for events (EBB_READ, EBB_WRITE, both, or 0 for paused);
 * level-triggered. arg is held while the watch is open. Fails: EBB_ERR_LIMIT, EBB_ERR_SYSTEM: the
 * system watches no more descriptors, or has no memory; *watch is NULL. */
enum ebb_err ebb_watch_open(struct ebb_watch **watch, struct ebb_loop *loop, ebb_fd handle,
                            int events, void (*fn)(int events, void *arg),
                            void *arg) EBB_MUST_CHECK;
/* Changes what is waited for; cheap when nothing changes. Fails: as ebb_watch_open; it is paused
 * then. */
enum ebb_err ebb_watch_set(struct ebb_watch *watch, int events) EBB_MUST_CHECK;
/* The same with 0, which cannot fail. */
void ebb_watch_pause(struct ebb_watch *watch);
/* Stops it; close the descriptor after, not before. NULL is fine. */
void ebb_watch_close(struct ebb_watch *watch);

/* Calls fn after ms milliseconds, again and again when repeat. A panic when memory is gone; */
struct ebb_timer *ebb_timer_open(struct ebb_loop *loop, uint64_t ms, bool repeat,
                                 void (*fn)(void *arg), void *arg);
/* the same, NULL when memory is gone: for timers that a peer asked for. */
struct ebb_timer *ebb_timer_try(struct ebb_loop *loop, uint64_t ms, bool repeat,
                                void (*fn)(void *arg), void *arg);
void ebb_timer_close(struct ebb_timer *timer);

/* Calls fn on the loop's thread when the process gets the signal: once, however many come until
 * then. SIGTERM and SIGINT go before others. One for each number. Fails: there is no such signal.
 */
enum ebb_err ebb_signal_open(struct ebb_signal **sig, struct ebb_loop *loop, int number,
                             void (*fn)(void *arg), void *arg) EBB_MUST_CHECK;
void ebb_signal_close(struct ebb_signal *sig);

/* Before any other call of this header: libevent's memory becomes collected memory of type
 * "libevent". */
void ebb_loop_library_start(void);
/* After all loops are closed: libevent gives back what it holds for itself. */
void ebb_loop_library_stop(void);

__END_DECLS

#endif
