/* explore -- every interleaving of a few small threads, as x86 orders memory.
 *
 * A thread is a function of one `switch` that goes on where it stopped (BEGIN, END) and does one
 * access to shared memory for each STEP. Stores wait in the thread's own buffer, oldest first, and
 * reach memory at any later moment; a compare-and-swap, an addition and a fence wait until it is
 * empty. All that a thread knows between two steps is in struct thread.
 *
 * explore() visits each reachable state once (a 64-bit hash remembers them) and returns the first
 * thing that went wrong, or NULL. */
#ifndef MODEL_EXPLORE_H
#define MODEL_EXPLORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { WORDS_MAX = 64, BUFFER_MAX = 8, THREADS_MAX = 4 };

/* A pointer to a segment's memory: which, and whose turn it was. 0: NULL. */
struct pointer {
    uint8_t object, turn;
};

struct thread {
    uint16_t at; /* 0: at the beginning; FINISHED */
    uint8_t waiting;
    struct {
        uint8_t address, value;
    } buffer[BUFFER_MAX];
    /* Registers; named for what the store's code calls them. */
    uint8_t bucket, buckets, version, i, slot, taken[4], header, a, b, number, found, key, cell,
        pass;
    uint8_t chunk_id, chunk_generation, chunk_at, reservation_id, reservation_generation, room_cell;
    uint8_t index, layout;
    struct pointer data, reservation;
};

enum { FINISHED = UINT16_MAX };

struct state {
    uint8_t word[WORDS_MAX];
    uint8_t turn[8]; /* of each object: rises when it is given out */
    uint8_t current; /* the value that a reader must find now; 0: none */
    uint8_t allowed; /* a bit for each value that was current since the reader began */
    bool reading;
    struct thread thread[THREADS_MAX];
};

extern struct state *S;  /* the state being changed */
extern struct thread *T; /* the thread that runs */
extern const char *wrong;
extern bool buffered; /* else a store reaches memory at once */

uint8_t load(uint8_t address);
void store(uint8_t address, uint8_t value);

typedef void program(void);
struct scenario {
    const char *name;
    program *thread[THREADS_MAX];
    void (*prepare)(void); /* fills *S */
    void (*judge)(void);   /* when all have finished */
};
const char *explore(const struct scenario *scenario, uint64_t *states);

#define BEGIN                                                                                      \
    switch (T->at) {                                                                               \
    case 0:
#define END                                                                                        \
    }                                                                                              \
    T->at = FINISHED;
#define STEP_AT(n)                                                                                 \
    do {                                                                                           \
        T->at = (n);                                                                               \
        return;                                                                                    \
    case (n):;                                                                                     \
    } while (0)
#define STEP           STEP_AT(__COUNTER__ + 1)
#define LOAD(to, from) STEP_LOAD(to, from, __COUNTER__ + 1)
#define STEP_LOAD(to, from, n)                                                                     \
    do {                                                                                           \
        STEP_AT(n);                                                                                \
        (to) = load(from);                                                                         \
    } while (0)
#define STORE(to, value) STEP_STORE(to, value, __COUNTER__ + 1)
#define STEP_STORE(to, value, n)                                                                   \
    do {                                                                                           \
        STEP_AT(n);                                                                                \
        store(to, value);                                                                          \
    } while (0)
/* Waits until this thread's stores have reached memory. */
#define FENCE STEP_FENCE(__COUNTER__ + 1)
#define STEP_FENCE(n)                                                                              \
    do {                                                                                           \
        STEP_AT(n);                                                                                \
        if (T->waiting)                                                                            \
            return;                                                                                \
    } while (0)

#define CHECK(condition, what)                                                                     \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            wrong = what;                                                                          \
            return;                                                                                \
        }                                                                                          \
    } while (0)

#endif
