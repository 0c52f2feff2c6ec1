/* daemon -- what every daemon does around its own work: profile, collector, signals, background,
 * user, admin address, heap trace, and an orderly end.
 *
 *   static struct ebb_daemon_plan plan = {...};
 *   int main(int argc, char **argv) { parse settings; return ebb_daemon_run(&plan); }
 */
#ifndef EBB_DAEMON_H
#define EBB_DAEMON_H

#include <ebb/alarm.h>
#include <ebb/collector.h>
#include <ebb/log.h>
#include <ebb/loop.h>
#include <ebb/mem.h>
#include <ebb/metric.h>
#include <ebb/setting.h>
#include <sys/cdefs.h>

__BEGIN_DECLS

struct ebb_daemon; /* one per process */

struct ebb_daemon_plan {
    const char *name, *version;
    const char *gc_profile;        /* NAME|FILE; NULL: the build's own */
    const char *heap_trace;        /* CSV file, or NULL */
    uint64_t heap_trace_bytes_max; /* of that file, then it becomes FILE.1; 0: 64 MiB */
    const char *leak_report;       /* FILE (text) and FILE.json at the end and on demand, or NULL */
    const char *snapshot_folder;   /* for SIGUSR2; NULL: the working folder */
    const char *admin;             /* "HOST:PORT", or NULL for none */
    bool admin_allow_remote;       /* else an admin address that is not loopback is a usage error */
    const char *log_file;          /* appended to, opened anew on SIGHUP; NULL: stderr */
    const char *log_format;        /* "auto" or NULL, "text", "json", "journald" */
    const struct ebb_event *const *events; /* the program's own, for ebb_log_event */
    size_t events_count;
    struct ebb_alarm *const *alarms; /* the program's own, with their read functions */
    size_t alarms_count;
    const struct ebb_setting_list *alarm_changes; /* for ebb_alarm_set, or NULL */
    uint64_t stall_ms;      /* a loop that stands still for so long is told; 0: no watchdog */
    uint64_t (*load)(void); /* how much it has to do with: connections; or NULL */
    struct ebb_type *const *cache_types; /* types whose memory is the cache: it may grow */
    size_t cache_types_count;
    const char *pid_file; /* or NULL */
    const char *user;     /* to become when root, or NULL */
    bool background;   /* fork; the parent waits until the start succeeded or failed; then 0-2 go to
                          /dev/null, and the working folder is /; relative paths mean what they did */
    bool keeps_folder; /* the background stays in the folder it was started in: core files */
    size_t budget;     /* bytes of memory the program means to use */
    const char *budget_name; /* how messages call it, such as "--memory-limit (-m)" */
    const char *memory_max;  /* bound of the whole process: bytes, "80%", "auto" or NULL: as the
                                cgroup allows */
    unsigned gc_cpu_percent; /* most that collections may take of the processor time; 0: 10 */
    const char *system_root; /* folder with proc/ and sys/ of a stand-in system; NULL: the real */
    bool close_inherited;    /* take stock of inherited descriptors, see <ebb/inventory.h> */
    unsigned drain_seconds;  /* most that an orderly end waits for drain */
    struct ebb_type *const *types;
    size_t types_count;
    struct ebb_metric *const *metrics;
    size_t metrics_count;
    /* On the main thread's loop, before the first iteration: open listeners, start workers. When it
     * fails it has let go of what it opened; stop is not called. */
    enum ebb_err (*start)(struct ebb_daemon *daemon, struct ebb_loop *loop, void *arg);
    /* On SIGTERM or SIGINT, or when ebb_daemon_stop was called: let go of everything start opened.
     */
    void (*stop)(struct ebb_daemon *daemon, void *arg);
    /* When it is to end: take no more, and finish what is begun. Called again and again until it
     * says true (all is done) or drain_seconds are over; then stop. NULL: at once. */
    bool (*drain)(struct ebb_daemon *daemon, void *arg);
    /* For a program that can live with less memory, a cache: what it may use and what it uses; and
     * to use at most target from now on (false: that is too little for it). Main loop; both or
     * neither. */
    void (*memory_read)(struct ebb_daemon *daemon, size_t *target, size_t *used, void *arg);
    bool (*memory_set)(struct ebb_daemon *daemon, size_t target, void *arg);
    /* Each second on the main loop, or NULL. */
    void (*tick)(struct ebb_daemon *daemon, void *arg);
    /* After start, when ready: print where it listens; or NULL. */
    void (*ready)(struct ebb_daemon *daemon, void *arg);
    /* Adds the program's own members to the JSON object of /debug/status, each with a comma before
     * it: `,"cache":{...}`; or NULL. */
    void (*status)(struct ebb_daemon *daemon, struct ebb_writer *writer, void *arg);
    void *arg;
};

/* Runs until stopped. Returns the exit status: 0; 64 for a usage error; 71 for a refusal of the
 * system; 3 when something was still open or forgotten at the end, or leaked (profile's
 * exit_status_on_leak). The failure's sentence is on
 * stderr, "NAME: SENTENCE". The signals that it heard (TERM, INT, HUP, USR1, USR2) are ignored from
 * the end on: the program is to end too. */
int ebb_daemon_run(const struct ebb_daemon_plan *plan);
/* Begins the orderly end; a second call does not wait for the drain. Any thread. */
void ebb_daemon_stop(struct ebb_daemon *daemon);
/* The plan's budget, or the bound of the whole process (memory_max) when that is less. */
size_t ebb_daemon_budget(const struct ebb_daemon *daemon);
/* For start, while we are root: what this thread makes in the file system belongs to user, and only
 * what user may do is allowed, until ebb_files_as_ourselves. For what must be reachable, and
 * removable, once root is given up. user NULL, or not root: nothing changes. Fails: no such user.
 */
enum ebb_err ebb_files_as(const char *user) EBB_MUST_CHECK;
void ebb_files_as_ourselves(void);
/* The port the admin address got, 0 without one. */
int ebb_daemon_admin_port(const struct ebb_daemon *daemon);

__END_DECLS

#endif
