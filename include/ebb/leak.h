/* leak -- the watch over OWNED objects, and GC_find_leak as a second opinion.
 *
 * A leak is found when the collector reclaims it: counted at once, told (log line, once per type
 * and call site) by ebb_leaks_tell, which the loop calls between turns. */
#ifndef EBB_LEAK_H
#define EBB_LEAK_H

#include <ebb/mem.h>
#include <stdint.h>

#define EBB_SITE_FRAMES 8

/* A place in the program that allocates: return addresses, innermost first, 0 behind the last. */
struct ebb_site {
    uintptr_t frame[EBB_SITE_FRAMES];
    const struct ebb_type *type;
    _Atomic uint64_t allocated, allocated_bytes, gone, gone_bytes, leaked, leaked_bytes;
    _Atomic uint32_t untold; /* leaks not yet logged */
    _Atomic uint32_t used;   /* 0 free, 1 being filled, 2 filled */
};

/* Calls see for each call site that has leaked. Returns the sum of leaked objects over all types.
 */
uint64_t ebb_leaks_each(void (*see)(const struct ebb_site *site, void *context), void *context);
uint64_t ebb_leaks_count(void);

/* Calls see for each call site whose FOREIGN objects are not all freed (allocated > gone). At the
 * end of a program that has closed its libraries these are leaks too. Returns how many objects. */
uint64_t ebb_foreign_each(void (*see)(const struct ebb_site *site, void *context), void *context);

/* A site as text: "function (file:line) < caller (file:line) < ...", from debug information where
 * addr2line finds it, else function+offset. innermost frames first, as many as frames_max. */
void ebb_site_describe(const struct ebb_site *site, int frames_max, char *out, size_t size);

/* Logs each site that leaked since the last call, at level warn. Returns how many sites. */
int ebb_leaks_tell(void);

#endif
