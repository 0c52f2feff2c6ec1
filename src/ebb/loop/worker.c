/* worker -- N threads, each with a loop of its own.
 *
 * The loops are made before the threads, by the caller: a failure is one return, and work may be
 * posted to a worker before it runs.
 *
 * 1. A worker's loop ends by a post to it, so everything posted before the stop has run by then. */
#include <ebb/worker.h>

#include <stdio.h>

#include <ebb/assert.h>
#include <ebb/mem.h>
#include <ebb/resource.h>

#include "gc/types.h"

#define NAME_TEXT 32

struct worker {
    struct ebb_workers *workers;
    struct ebb_loop *loop;
    ebb_fd thread;
    char name[NAME_TEXT];
};

struct ebb_workers {
    struct ebb_scope *scope; /* the threads */
    void (*start)(int index, struct ebb_loop *loop, void *arg);
    void *start_arg;
    void (*stop)(int index, void *arg);
    void *stop_arg;
    int count;
    struct worker worker[];
};

static int index_of(const struct worker *worker) {
    return (int)(worker - worker->workers->worker);
}

static void worker_run(void *arg) {
    struct worker *worker = arg;
    struct ebb_workers *workers = worker->workers;
    if (workers->start != NULL)
        workers->start(index_of(worker), worker->loop, workers->start_arg);
    ebb_loop_run(worker->loop);
}

static void worker_end(void *arg) {
    struct worker *worker = arg;
    struct ebb_workers *workers = worker->workers;
    if (workers->stop != NULL)
        workers->stop(index_of(worker), workers->stop_arg);
    ebb_loop_stop(worker->loop);
}

enum ebb_err ebb_workers_start(struct ebb_workers **out, const char *name, int count,
                               void (*start)(int, struct ebb_loop *, void *), void *arg) {
    ebb_assert(count > 0, "%d workers", count);
    struct ebb_workers *workers = ebb_new_sized(
        &ebbi_type_workers, sizeof *workers + (size_t)count * sizeof workers->worker[0]);
    workers->start = start;
    workers->start_arg = arg;
    workers->count = count;
    workers->scope = ebb_scope_new("workers");
    enum ebb_err err = EBB_OK;
    for (int i = 0; i < count && err == EBB_OK; i++) {
        struct worker *worker = &workers->worker[i];
        worker->workers = workers;
        snprintf(worker->name, sizeof worker->name, "%s-%d", name, i);
        err = ebb_loop_new(&worker->loop, worker->name);
    }
    for (int i = 0; i < count && err == EBB_OK; i++) {
        struct worker *worker = &workers->worker[i];
        err = ebb_thread_open(&worker->thread, workers->scope, worker->name, worker_run, worker);
    }
    if (err != EBB_OK) {
        ebb_workers_stop(workers, NULL, NULL);
        return err;
    }
    *out = workers;
    return EBB_OK;
}

int ebb_workers_count(const struct ebb_workers *workers) {
    return workers->count;
}

struct ebb_loop *ebb_worker_loop(const struct ebb_workers *workers, int index) {
    ebb_assert(index >= 0 && index < workers->count, "worker %d of %d", index, workers->count);
    return workers->worker[index].loop;
}

void ebb_workers_stop(struct ebb_workers *workers, void (*stop)(int, void *), void *arg) {
    if (workers == NULL)
        return;
    workers->stop = stop;
    workers->stop_arg = arg;
    for (int i = 0; i < workers->count; i++)
        if (workers->worker[i].thread.generation != 0)
            ebb_loop_post(workers->worker[i].loop, worker_end, &workers->worker[i]);
    for (int i = 0; i < workers->count; i++) {
        ebb_fd_close(workers->worker[i].thread); /* waits for its end */
        ebb_loop_close(workers->worker[i].loop);
    }
    ebb_scope_close(workers->scope);
    ebb_done(workers);
}
