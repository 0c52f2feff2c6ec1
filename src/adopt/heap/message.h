/* message -- what an adopted process sends: datagrams to the abstract unix socket of the program
 * that started it. One round is: ADOPT_ROUND, any number of ADOPT_SITES, of ADOPT_MAPS, then
 * ADOPT_END. Both sides are of one build and one machine, so these are plain structs. */
#ifndef ADOPT_MESSAGE_H
#define ADOPT_MESSAGE_H

#include <stdint.h>

#define ADOPT_VARIABLE                                                                             \
    "EBB_ADOPT" /* interval in ms : rounds to reclaim : parent's id : token : socket */
#define ADOPT_MAGIC       0x61626545u
#define ADOPT_VERSION     1
#define ADOPT_FRAMES      12
#define ADOPT_TOKEN_BYTES 33 /* 32 hexadecimal digits and a NUL */
#define ADOPT_BYTES_MAX   32768

enum adopt_kind { ADOPT_ROUND = 1, ADOPT_SITES, ADOPT_MAPS, ADOPT_END };

/* Why a round was not judged. */
enum adopt_unjudged {
    ADOPT_JUDGED,
    ADOPT_NOT_STOPPED, /* a thread did not stop in time */
    ADOPT_NO_SNAPSHOT, /* the system refused the copy */
    ADOPT_NO_MAPS,     /* /proc/self/maps cannot be read */
    ADOPT_CONFINED,    /* the program is about to forbid itself what a round does */
};

struct adopt_header {
    uint32_t magic, version, kind;
    int32_t process;
    char token[ADOPT_TOKEN_BYTES];
};

struct adopt_round {
    uint64_t started_ns; /* of the process's heap: with the process id, its identity */
    uint32_t number;     /* rounds judged so far */
    uint32_t given_up;   /* rounds that were not judged */
    uint32_t why;        /* enum adopt_unjudged, of the latest of those */
    uint32_t at_end;     /* the process is about to end */
    uint64_t standstill_ns, standstill_max_ns, judged_ns;
    uint64_t live, live_bytes, lost, lost_bytes, suspects,
        cut; /* cut: lost, but no room to watch */
    uint64_t heap_bytes, disproofs, reclaimed, reclaimed_bytes;
    uint64_t misfreed; /* frees of what was free: one after the other may be of a reclaimed block */
    char name[16];
};

struct adopt_site {
    uint32_t site, frames;
    uint64_t frame[ADOPT_FRAMES];
    uint64_t lost, lost_bytes, held; /* held: of those, by other lost blocks */
    uint64_t live, live_bytes, allocated;
    uint64_t freed, reached, written; /* disproofs since the start */
    uint64_t reclaimed, reclaimed_bytes;
};

struct adopt_round_message {
    struct adopt_header header;
    struct adopt_round round;
};
struct adopt_sites_message {
    struct adopt_header header;
    uint32_t count;
    struct adopt_site site[ADOPT_BYTES_MAX / sizeof(struct adopt_site) - 1];
};
struct adopt_end_message {
    struct adopt_header header;
    uint32_t sites; /* rows that were sent */
};
struct adopt_maps_message {
    struct adopt_header header;
    uint32_t length;
    char text[ADOPT_BYTES_MAX - sizeof(struct adopt_header) - sizeof(uint32_t)];
};

#endif
