/* explore -- depth first; see explore.h. */
#include "explore.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

enum { SEEN_BITS = 24, DEPTH_MAX = 1 << 14 };

struct state *S;
struct thread *T;
const char *wrong;
bool buffered;

static uint64_t *seen;
static struct state *stack;

uint8_t load(uint8_t address) {
    for (int i = T->waiting; i-- > 0;)
        if (T->buffer[i].address == address)
            return T->buffer[i].value;
    return S->word[address];
}

void store(uint8_t address, uint8_t value) {
    if (!buffered) {
        S->word[address] = value;
        return;
    }
    if (T->waiting == BUFFER_MAX) {
        fprintf(stderr, "model: a buffer of more than %d stores\n", BUFFER_MAX);
        exit(EXIT_FAILURE);
    }
    T->buffer[T->waiting].address = address;
    T->buffer[T->waiting++].value = value;
}

static void drain_one(void) {
    S->word[T->buffer[0].address] = T->buffer[0].value;
    T->waiting--;
    memmove(T->buffer, T->buffer + 1, sizeof T->buffer - sizeof *T->buffer);
    memset(&T->buffer[BUFFER_MAX - 1], 0, sizeof *T->buffer);
}

static uint64_t hash(const struct state *state) {
    return XXH3_64bits(state, sizeof *state) | 1;
}

/* True: it was not there yet. */
static bool remember(uint64_t key, uint64_t *count) {
    uint64_t mask = ((uint64_t)1 << SEEN_BITS) - 1;
    for (uint64_t at = key & mask;; at = (at + 1) & mask) {
        if (seen[at] == key)
            return false;
        if (seen[at] == 0) {
            seen[at] = key;
            if (++*count > mask / 2) {
                fprintf(stderr, "model: more than %lu states\n", *count);
                exit(EXIT_FAILURE);
            }
            return true;
        }
    }
}

/* The successor of `from` in which thread i runs one step (or, drain, one store reaches memory).
 * False: there is none. */
static bool next(const struct scenario *scenario, const struct state *from, int i, bool drain,
                 struct state *to) {
    if (scenario->thread[i] == NULL ||
        (drain ? from->thread[i].waiting == 0 : from->thread[i].at == FINISHED))
        return false;
    *to = *from;
    S = to;
    T = &to->thread[i];
    if (drain)
        drain_one();
    else
        scenario->thread[i]();
    return true;
}

static bool all_finished(const struct scenario *scenario, const struct state *state) {
    for (int i = 0; i < THREADS_MAX; i++)
        if (scenario->thread[i] && (state->thread[i].at != FINISHED || state->thread[i].waiting))
            return false;
    return true;
}

static void trace(int depth) {
    if (getenv("EBB_MODEL_TRACE") == NULL)
        return;
    for (int d = 0; d <= depth; d++) {
        printf("%3d:", d);
        for (int i = 0; i < THREADS_MAX; i++)
            printf(" %5u/%u", stack[d].thread[i].at, stack[d].thread[i].waiting);
        for (int i = 0; i < WORDS_MAX; i++)
            printf("%s%x", i % 8 ? "" : " ", stack[d].word[i]);
        printf("\n");
    }
}

const char *explore(const struct scenario *scenario, uint64_t *states) {
    if (seen == NULL) {
        seen = malloc(sizeof *seen << SEEN_BITS);
        stack = malloc(DEPTH_MAX * sizeof *stack);
    }
    memset(seen, 0, sizeof *seen << SEEN_BITS);
    static uint8_t choice[DEPTH_MAX];
    int depth = 0;
    wrong = NULL;
    *states = 0;
    memset(&stack[0], 0, sizeof *stack);
    S = &stack[0];
    scenario->prepare();
    remember(hash(&stack[0]), states);
    choice[0] = 0;
    while (depth >= 0) {
        if (choice[depth] == 2 * THREADS_MAX) {
            depth--;
            continue;
        }
        int which = choice[depth]++;
        if (depth + 1 == DEPTH_MAX)
            return "the model runs too deep";
        if (!next(scenario, &stack[depth], which / 2, which % 2, &stack[depth + 1]))
            continue;
        if (wrong == NULL && all_finished(scenario, &stack[depth + 1]))
            scenario->judge();
        if (wrong) {
            trace(depth + 1);
            return wrong;
        }
        if (!remember(hash(&stack[depth + 1]), states))
            continue;
        choice[++depth] = 0;
    }
    return NULL;
}
