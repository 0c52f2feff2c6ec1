/* processes -- what each watched process reported last, and what of it is told in the log.
 *
 * A report is several messages of one process; it counts when its last one has come. A site is
 * told when it first lost something, and then whenever the number has doubled.
 *
 * 1. A process is known by its id and by when its heap began: after exec it is another.
 * 2. A report counts when all of it has come; until then the one before does. A site that is not in
 * it has lost nothing (any more). */
#include "adopt.h"

#include <errno.h>
#include <signal.h>
#include <string.h>

enum { MAPS_BYTES_MAX = 1 << 20, ENDED_KEPT_MAX = 64 };

struct ebb_list processes = EBB_LIST_INIT(processes);

/* --- sites --- */

static struct adopted_site *site_of(struct adopted_process *process, uint32_t number) {
    struct adopted_site **place = &process->bucket[number % SITE_BUCKETS];
    for (; *place; place = &(*place)->next)
        if ((*place)->row.site == number)
            return *place;
    struct adopted_site *site = ebb_new(adopted_site);
    site->row.site = number;
    *place = site;
    return site;
}

void process_sites_each(const struct adopted_process *process,
                        void (*see)(struct adopted_site *site, void *context), void *context) {
    for (int i = 0; i < SITE_BUCKETS; i++)
        for (struct adopted_site *site = process->bucket[i]; site; site = site->next)
            see(site, context);
}

static void take_sites(struct adopted_process *process, const struct adopt_sites_message *message,
                       size_t bytes) {
    size_t room = (bytes - offsetof(struct adopt_sites_message, site)) / sizeof message->site[0];
    for (uint32_t i = 0; i < message->count && i < room; i++) {
        struct adopted_site *site = site_of(process, message->site[i].site);
        site->coming = message->site[i];
        site->has_come = true;
        if (site->coming.frames > ADOPT_FRAMES)
            site->coming.frames = 0;
        process->sites_come++;
    }
}

static void take_maps(struct adopted_process *process, const struct adopt_maps_message *message,
                      size_t bytes) {
    size_t length = bytes - offsetof(struct adopt_maps_message, text);
    if (process->maps_bytes + length > MAPS_BYTES_MAX)
        return;
    if (process->maps_bytes + length > process->maps_room) {
        size_t room = 2 * (process->maps_bytes + length);
        char *more = ebb_bytes(room);
        memcpy(more, process->maps, process->maps_bytes);
        process->maps = more;
        process->maps_room = room;
    }
    memcpy(process->maps + process->maps_bytes, message->text, length);
    process->maps_bytes += length;
}

/* --- the log --- */

static const char *reason_of(uint32_t why) {
    static const char *const reasons[] = {
        [ADOPT_JUDGED] = "unknown",
        [ADOPT_NOT_STOPPED] = "a thread did not stop in time (the machine is busy, it blocks every "
                              "signal, or it waits for a vfork)",
        [ADOPT_NO_SNAPSHOT] = "the system refused a copy of the process (memory, or the number of "
                              "processes)",
        [ADOPT_NO_MAPS] = "/proc/self/maps cannot be read there",
        [ADOPT_CONFINED] = "it confines itself (seccomp), and a round would end it",
    };
    return why < sizeof reasons / sizeof reasons[0] ? reasons[why] : "unknown";
}

static void tell_site(struct adopted_site *site, void *context) {
    const struct adopted_process *process = context;
    const char *text = site->text ? site->text : "(unknown)";
    uint64_t lost = site->row.lost + site->row.reclaimed;
    if (lost > 0 && lost >= 2 * site->told_lost) {
        site->told_lost = lost;
        ebb_log_event(adopted_lost, process->round.name, process->id, lost,
                      site->row.lost_bytes + site->row.reclaimed_bytes, site->row.live, text);
    }
    uint64_t disproofs = site_disproofs(site);
    if (disproofs > 0 && disproofs >= 2 * site->told_disproofs) {
        site->told_disproofs = disproofs;
        ebb_log_event(adopted_doubtful, process->round.name, process->id, disproofs,
                      site->row.freed, site->row.reached, site->row.written, text);
    }
}

static void tell(struct adopted_process *process) {
    const struct adopt_round *round = &process->round;
    if (round->given_up >= 2 * process->told_given_up && round->why != ADOPT_JUDGED) {
        process->told_given_up = round->given_up;
        ebb_log_event(adopted_unjudged, round->name, process->id, reason_of(round->why),
                      round->given_up);
    }
    if (round->misfreed > 0 && !process->told_misfreed) {
        process->told_misfreed = true;
        ebb_log_event(adopted_misfreed, round->name, process->id, round->misfreed);
    }
    if (round->why == ADOPT_JUDGED)
        process_sites_each(process, tell_site, process);
}

/* --- all together --- */

static void sum(void) {
    struct adopt_round all = {0};
    int64_t count = 0;
    EBB_LIST_EACH (&processes, link) {
        const struct adopted_process *process = EBB_LIST_ENTRY(link, struct adopted_process, link);
        if (process->ended)
            continue;
        count++;
        all.lost += process->round.lost;
        all.lost_bytes += process->round.lost_bytes;
        all.live += process->round.live;
        all.live_bytes += process->round.live_bytes;
        all.heap_bytes += process->round.heap_bytes;
        all.disproofs += process->round.disproofs;
        all.reclaimed += process->round.reclaimed;
        all.reclaimed_bytes += process->round.reclaimed_bytes;
        all.given_up += process->round.given_up;
    }
    ebb_gauge_set(&ebb_metric_adopted_processes, count);
    ebb_gauge_set(&ebb_metric_adopted_lost, (int64_t)all.lost);
    ebb_gauge_set(&ebb_metric_adopted_lost_bytes, (int64_t)all.lost_bytes);
    ebb_gauge_set(&ebb_metric_adopted_live, (int64_t)all.live);
    ebb_gauge_set(&ebb_metric_adopted_live_bytes, (int64_t)all.live_bytes);
    ebb_gauge_set(&ebb_metric_adopted_heap_bytes, (int64_t)all.heap_bytes);
    ebb_gauge_set(&ebb_metric_adopted_disproofs, (int64_t)all.disproofs);
    ebb_gauge_set(&ebb_metric_adopted_reclaimed, (int64_t)all.reclaimed);
    ebb_gauge_set(&ebb_metric_adopted_reclaimed_bytes, (int64_t)all.reclaimed_bytes);
    ebb_gauge_set(&ebb_metric_adopted_given_up, all.given_up);
}

static void drop_oldest_ended(void) {
    int kept = 0;
    for (struct ebb_list *link = processes.previous; link != &processes;) {
        struct adopted_process *process = EBB_LIST_ENTRY(link, struct adopted_process, link);
        link = link->previous;
        if (process->ended && ++kept > ENDED_KEPT_MAX)
            ebb_list_remove(&process->link);
    }
}

static struct adopted_process *find(int32_t id) {
    EBB_LIST_EACH (&processes, link) {
        struct adopted_process *process = EBB_LIST_ENTRY(link, struct adopted_process, link);
        if (process->id == id && !process->ended)
            return process;
    }
    return NULL;
}

static void forget_coming(struct adopted_site *site, void *context) {
    (void)context;
    site->has_come = false;
}

static void take_coming(struct adopted_site *site, void *context) {
    (void)context;
    site->lost_before = site->row.lost;
    if (site->has_come)
        site->row = site->coming;
    else
        site->row.lost = site->row.lost_bytes = site->row.held = 0;
}

static void take_round(int32_t id, const struct adopt_round *round) {
    struct adopted_process *process = find(id);
    if (process && process->round.started_ns != round->started_ns) {
        process->ended = true; /* another program in its place */
        process = NULL;
    }
    if (process == NULL) {
        process = ebb_new(adopted_process);
        process->id = id;
        process->first_heard_ns = ebb_clock_ns();
        memcpy(process->round.name, round->name, sizeof round->name - 1);
        process->round.started_ns = round->started_ns;
        ebb_list_append(&processes, &process->link);
        ebb_log_event(adopted, round->name, id);
    }
    process->coming = *round;
    process->coming.name[sizeof round->name - 1] = '\0';
    process->is_coming = true;
    process->sites_come = 0;
    process->maps_bytes = 0;
    process_sites_each(process, forget_coming, NULL);
}

static void observe(const struct adopt_round *round) {
    ebb_count(&ebb_metric_adopted_rounds, 1);
    ebb_observe_ns(&ebb_metric_adopted_judged, round->judged_ns);
    if (round->standstill_ns > 0)
        ebb_observe_ns(&ebb_metric_adopted_standstill, round->standstill_ns);
}

/* The whole report has come: it takes the place of the one before. */
static void take_end(struct adopted_process *process, const struct adopt_end_message *message) {
    if (!process->is_coming || process->sites_come != message->sites)
        return; /* a part of it was lost: the next one will do */
    process->is_coming = false;
    process->heard_ns = ebb_clock_ns();
    if (process->coming.why == ADOPT_JUDGED) {
        process->round = process->coming;
        process_sites_each(process, take_coming, NULL);
        names_resolve(process);
        observe(&process->round);
    } else { /* nothing is known but that */
        process->round.why = process->coming.why;
        process->round.given_up = process->coming.given_up;
    }
    tell(process);
    sum();
}

void processes_take(const struct adopt_header *header, size_t bytes) {
    struct adopted_process *process = find(header->process);
    if (header->kind == ADOPT_ROUND && bytes == sizeof(struct adopt_round_message)) {
        take_round(header->process, &((const struct adopt_round_message *)header)->round);
    } else if (process == NULL) {
        return;
    } else if (header->kind == ADOPT_SITES && bytes > offsetof(struct adopt_sites_message, site)) {
        take_sites(process, (const void *)header, bytes);
    } else if (header->kind == ADOPT_MAPS && bytes > offsetof(struct adopt_maps_message, text)) {
        take_maps(process, (const void *)header, bytes);
    } else if (header->kind == ADOPT_END && bytes == sizeof(struct adopt_end_message)) {
        take_end(process, (const void *)header);
    }
}

void processes_ended(int32_t id) {
    hear_rest();
    struct adopted_process *process = find(id);
    if (process == NULL)
        return;
    process->ended = true;
    ebb_log_event(adopted_ended, process->round.name, id, process->round.lost,
                  process->round.lost_bytes);
    sum();
}

/* Those that somebody else has reaped: a master's workers. */
void processes_look(void) {
    EBB_LIST_EACH (&processes, link) {
        const struct adopted_process *process = EBB_LIST_ENTRY(link, struct adopted_process, link);
        if (!process->ended && kill(process->id, 0) != 0 && errno == ESRCH)
            processes_ended(process->id);
    }
    drop_oldest_ended();
}

static void add_lost(struct adopted_site *site, void *context) {
    if (site_disproofs(site) == 0)
        *(uint64_t *)context += site->row.lost + site->row.reclaimed;
}

uint64_t processes_lost(void) {
    uint64_t lost = 0;
    EBB_LIST_EACH (&processes, link)
        process_sites_each(EBB_LIST_ENTRY(link, struct adopted_process, link), add_lost, &lost);
    return lost;
}
