/* adopt -- what the parts of ebb-adopt share. */
#ifndef ADOPT_TOOL_H
#define ADOPT_TOOL_H

#include "../heap/message.h"
#include <ebb/ebb.h>
#include <sys/types.h>

struct settings {
#define EBB_SETTING EBB_SETTING_MEMBER
#include "../tbl/settings.def"
};

#define EBB_EVENT EBB_EVENT_DECLARE
#include "../tbl/events.def"
#define EBB_METRIC EBB_METRIC_DECLARE
#include "../tbl/metrics.def"
#define EBB_TYPE EBB_TYPE_DECLARE
#include "../tbl/types.def"

enum { SITE_TEXT_MAX = 2048, SITE_BUCKETS = 256 };

struct adopted_site {
    struct adopted_site *next; /* in its bucket */
    struct adopt_site row;     /* as last reported */
    struct adopt_site coming;  /* of a report whose end has not come */
    bool has_come;
    uint64_t lost_before; /* in the report before */
    uint64_t told_lost, told_disproofs;
    const char *text; /* its call path, "NAME (PLACE) < ..."; NULL: not resolved yet */
};
struct adopted_process {
    struct ebb_list link;
    int32_t id;
    bool ended;
    struct adopt_round round;
    struct adopt_round coming; /* of a report whose end has not come, if there is one */
    bool is_coming;
    uint32_t sites_come;
    uint32_t told_given_up;
    bool told_misfreed;
    uint64_t first_heard_ns, heard_ns;
    struct adopted_site *bucket[SITE_BUCKETS];
    char *maps; /* of the latest report */
    size_t maps_bytes, maps_room;
};

/* --- hear.c: the socket that reports come to --- */

/* name receives the socket's abstract name, token the word that reports carry. */
enum ebb_err hear_open(struct ebb_loop *loop, struct ebb_scope *scope, char name[64],
                       char token[ADOPT_TOKEN_BYTES]) EBB_MUST_CHECK;
void hear_close(void);
/* Takes what has come until now. */
void hear_rest(void);

/* --- processes.c: what was heard --- */

extern struct ebb_list processes;
/* One whole message of so many bytes, with a good header. */
void processes_take(const struct adopt_header *header, size_t bytes);
/* Of all processes, those that ended too. Sites with disproofs do not count. */
uint64_t processes_lost(void);
void processes_ended(int32_t id);
/* Each second, and at the end: which have ended. */
void processes_look(void);
void process_sites_each(const struct adopted_process *process,
                        void (*see)(struct adopted_site *site, void *context), void *context);
static inline uint64_t site_disproofs(const struct adopted_site *site) {
    return site->row.freed + site->row.reached + site->row.written;
}

/* --- names.c --- */

/* Resolves the call path of each site that has no text yet. */
void names_resolve(struct adopted_process *process);

/* --- pages.c --- */

void pages_open(void);
/* only: a process id or a name, or NULL for all. */
void pages_write_text(struct ebb_writer *out, const char *only);
void pages_write_json(struct ebb_writer *out, const char *only);
/* FILE and FILE.json. */
enum ebb_err pages_write_files(const char *path) EBB_MUST_CHECK;

/* --- program.c: the program that is watched --- */

/* The file that `word` names, as a shell finds it. status receives 126 or 127 on failure. */
enum ebb_err program_find(const char *word, char *path, size_t size, int *status) EBB_MUST_CHECK;
/* Whether it can be watched. Fails: EBB_ERR_USAGE, the reason. */
enum ebb_err program_check(const char *path) EBB_MUST_CHECK;
/* The library that is preloaded. */
enum ebb_err program_library(const char *given, char *path, size_t size) EBB_MUST_CHECK;
/* Starts it; ended(arg) is called when it and all that it left behind have ended. */
enum ebb_err program_start(struct ebb_loop *loop, struct ebb_scope *scope,
                           const char *const words[], void (*ended)(void *),
                           void *arg) EBB_MUST_CHECK;
/* Each second. */
void program_tick(void);
/* Asks it to end. True once it has. */
bool program_end(void);
/* As a shell has it: 128 + the signal. */
int program_status(void);
void program_close(void);

/* --- ask.c: `ebb-adopt report` --- */

int ask_report(int argc, char **argv);

#endif
