/* governor -- how large the cache may be, as the system requires; for daemon.c. */
#ifndef EBBI_DAEMON_GOVERNOR_H
#define EBBI_DAEMON_GOVERNOR_H

#include <ebb/daemon.h>
#include <ebb/pressure.h>
#include <pthread.h>

struct ebbi_governor {
    pthread_mutex_t mutex; /* of all below; the main loop's, and of who makes room */
    struct ebb_daemon *daemon;
    const struct ebb_daemon_plan *plan;
    struct ebb_memory_limits limits;
    struct ebb_pressure pressure;
    struct ebb_watch *watch;
    struct ebb_loop *loop;
    struct ebb_timer *timer; /* while there is a bound */

    size_t asked, target; /* as the settings or an operator say; as it is set now */
    size_t by_pressure;   /* the most that pressure allows; SIZE_MAX: all */
    size_t by_bound;      /* the most that keeps the process in its bound */
    uint64_t beside;      /* resident besides the heap, at the start */
    uint64_t bound;       /* bytes of resident memory, 0 for none */
    bool follows_group;   /* the bound is what the cgroup allows, whatever that is just now */
    uint64_t events;      /* of the cgroup, at the latest look */
    uint64_t pressed_ns, stepped_ns;
    uint64_t refused_ns, refused_at; /* when room could last not be made; what was resident then */
    unsigned refusals;               /* in a row that freed nothing */

    uint64_t cpu_ns, gc_ns, share_ns; /* at the latest look at the share of collections, and when */
    unsigned gc_percent, slack;

    uint64_t allocated, kept, back_ns; /* see give_back */
};

/* Reads the limits and checks the plan's budget and bound against them. Fails: EBB_ERR_USAGE. */
enum ebb_err ebbi_governor_check(struct ebbi_governor *self,
                                 const struct ebb_daemon_plan *plan) EBB_MUST_CHECK;
/* What there is to begin with: the plan's budget, or the bound when that is less. */
size_t ebbi_governor_budget(const struct ebbi_governor *self);
/* After the plan's start. */
enum ebb_err ebbi_governor_open(struct ebbi_governor *self, struct ebb_daemon *daemon,
                                struct ebb_loop *loop, struct ebb_scope *scope) EBB_MUST_CHECK;
/* Each second. */
void ebbi_governor_tick(struct ebbi_governor *self, uint64_t now_ns);
/* Before the loop is closed. */
void ebbi_governor_close(struct ebbi_governor *self);

#endif
