/* leak -- the watch over OWNED objects, and GC_find_leak as a second opinion.
 *
 * A leak is an OWNED object that is unreachable and was not released by ebb_done. Each collection
 * counts all that were lost before it, whatever lives beside them; ebb_leaks_tell, which the daemon
 * calls each second, reports them (a log line, once for each type and call site). */
#ifndef EBB_LEAK_H
#define EBB_LEAK_H

#include <ebb/err.h>
#include <ebb/mem.h>
#include <ebb/writer.h>
#include <stdint.h>
#include <sys/cdefs.h>

__BEGIN_DECLS

#define EBB_SITE_FRAMES 32 /* with the profile's full_stacks; 8 without */

/* A place in the program that allocates: return addresses, innermost first, 0 behind the last. */
struct ebb_site {
    uintptr_t frame[EBB_SITE_FRAMES];
    const struct ebb_type *type;
    EBB_ATOMIC(uint64_t) allocated, allocated_bytes, gone, gone_bytes, leaked, leaked_bytes;
    EBB_ATOMIC(uint64_t) age_seconds_sum; /* of the leaked, from birth to being found */
    EBB_ATOMIC(uint32_t) age_seconds_max;
    EBB_ATOMIC(uint32_t) used_after_done;     /* debug builds: written to after ebb_done */
    EBB_ATOMIC(uint32_t) untold, untold_used; /* not yet logged */
    EBB_ATOMIC(uint32_t) told;                /* 1: its first leaks were logged */
    EBB_ATOMIC(uint32_t) used;                /* 0 free, 1 being filled, 2 filled */
    EBB_ATOMIC(uint32_t) label;   /* internal: its text in symbol.c's cache, 0: none yet */
    EBB_ATOMIC(uint32_t) excused; /* 0 not looked yet, 1 no, 2 suppressed */
};

/* Calls see for each call site that has leaked. Returns the sum of leaked objects over all types.
 */
uint64_t ebb_leaks_each(void (*see)(const struct ebb_site *site, void *context), void *context);
uint64_t ebb_leaks_count(void);
/* Every site that has allocated so far: for profiles. */
void ebb_sites_each(void (*see)(const struct ebb_site *site, void *context), void *context);

/* Calls see for each call site whose FOREIGN objects are not all freed (allocated > gone). At the
 * end of a program that has closed its libraries these are leaks too. Returns how many objects. */
uint64_t ebb_foreign_each(void (*see)(const struct ebb_site *site, void *context), void *context);

/* A site as text: "function (file:line) < caller (file:line) < ...", from debug information,
 * which a forked copy of the process reads (with a limit of time and memory); else the dynamic
 * symbol, or file+offset as addr2line takes it. Innermost frames first, as many as frames_max. */
void ebb_site_describe(const struct ebb_site *site, int frames_max, char *out, size_t size);
/* The innermost frame as short static text, found once per site: for labels and log lines. Beyond
 * 200 sites it is "other". */
const char *ebb_site_label(const struct ebb_site *site);

/* Logs each site that leaked since the last call, at level warn. Returns how many sites. */
int ebb_leaks_tell(void);

/* Suppressions: a line "TYPE FUNCTION  # reason", both with * and ?, excuses leaks of that type
 * with that function anywhere in their stack. They are counted and listed, but do not make a run
 * fail. Fails: EBB_ERR_USAGE with file and line. */
enum ebb_err ebb_leak_suppressions_read(const char *path) EBB_MUST_CHECK;
/* Reads leaks.supp beside the profile that was chosen, if there is one. */
enum ebb_err ebb_leak_suppressions_default(void) EBB_MUST_CHECK;
/* Leaked objects that no suppression excuses. Looks up names: not in a hurry. */
uint64_t ebb_leaks_inexcusable(void);
/* OWNED objects that were written to after ebb_done; debug builds find these, others say 0. */
uint64_t ebb_used_after_done_count(void);
/* Misuses that a build without EBB_DEBUG survived (ebb_misuse_total). */
uint64_t ebb_misuse_count(void);

/* All leaks by site, worst first, as text for people or as JSON. */
void ebb_leaks_write_text(struct ebb_writer *writer);
void ebb_leaks_write_json(struct ebb_writer *writer);

/* The second opinion: with the profile's find_leak the collector's own finder looks instead of the
 * watch. Collects until it reports nothing more (it tells at most 40 a collection), counts what is
 * OWNED into the same tables (types and, as the headers say, sites), and leaves SHARED garbage out.
 * Returns how many were found by this call. When: no other thread allocates. Without find_leak it
 * does nothing. */
uint64_t ebb_second_opinion(void);

__END_DECLS

#endif
