/* suspects -- blocks that nothing points to, from round to round: when one counts as lost, and what
 * would prove that wrong.
 *
 * A block that was not reached in two rounds in a row is lost. It stays under watch: if it is
 * freed after that, reached again, or its contents change, then somebody had it all the time, and
 * the site where it was made is charged with a disproof, for everybody to see.
 *
 * The list of a round lies in memory that the copies share, so that the next copy finds it; the
 * program itself never reads it. Both lists are in the order of addresses, as is the walk over the
 * heap, so comparing them is a merge.
 *
 * Where it is asked for, the next round frees what has been lost for so many rounds, at sites
 * without a disproof; a copy says which, the program does it. A free of a block that is free ends
 * that for the whole process: it may be one that was reclaimed.
 *
 * 1. A round writes the other list, and makes it the current one when it is complete: a copy that
 * dies leaves the round before as it was.
 * 2. A block is the same one as before when its address and its word are: the word has a serial. */
#include "heap.h"

#define GC_THREADS
#define GC_NO_THREAD_REDIRECTS
#include <gc/gc.h>
#include <gc/gc_mark.h>
#include <string.h>
#include <sys/mman.h>

enum {
    SUSPECTS_MAX = 1 << 20,
    SITES = 1 << 16,
    LOST_AGE = 2,
    DOOMED_MAX = 1 << 14,
    AGE_MAX = 255,
    HASHED_BYTES_MAX = 512
};

struct suspect {
    uintptr_t base;
    uint64_t word;
    size_t bytes;
    uint32_t hash;
    uint8_t age; /* rounds in a row in which it was not reached */
    bool held;   /* by another lost block */
};
struct disproofs {
    uint32_t freed, reached, written, reclaimed;
    uint64_t reclaimed_bytes;
};
struct doomed {
    uintptr_t base;
    uint64_t word;
    bool done; /* the program has freed it */
};
struct list {
    uint32_t count;
    struct suspect suspect[SUSPECTS_MAX];
};
struct shared {
    uint32_t current;
    struct disproofs disproofs[SITES];
    struct list list[2];
    uint32_t doomed_count;
    struct doomed doomed[DOOMED_MAX]; /* by address */
};
struct tally { /* of a site, in this round */
    uint64_t lost, lost_bytes, held, live, live_bytes;
};

static struct shared *shared;
static struct tally tallies[SITES];
static struct adopt_round *round_now;
static const struct list *before;
static struct list *now;
static uint32_t before_next;
static _Atomic uint64_t misfreed;

bool suspects_start(void) {
    void *at = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE,
                    MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    shared = at == MAP_FAILED ? NULL : at;
    return shared != NULL;
}

/* The child of a fork has rounds of its own. */
void suspects_forked(void) {
    munmap(shared, sizeof *shared);
    if (!suspects_start())
        atomic_store(&adopt_state, ADOPT_PLAIN);
}

/* --- in the program --- */

void suspects_misfreed(void) {
    atomic_fetch_add(&misfreed, 1);
}

void suspects_reclaim(void) {
    for (uint32_t i = 0; atomic_load(&misfreed) == 0 && i < shared->doomed_count; i++) {
        struct doomed *doomed = &shared->doomed[i];
        if (!doomed->done)
            doomed->done = block_reclaim(doomed->base, doomed->word);
    }
}

/* --- in the copy --- */

static uint32_t hash_of(const struct block *block) {
    size_t bytes = block->bytes < HASHED_BYTES_MAX ? block->bytes : HASHED_BYTES_MAX;
    const uint64_t *word = (const void *)block->base;
    uint64_t hash = bytes;
    for (size_t i = 0; i < bytes / sizeof *word; i++) {
        hash = (hash ^ word[i]) * 0x9E3779B97F4A7C15ull;
        hash ^= hash >> 29;
    }
    return (uint32_t)hash;
}

/* --- the merge --- */

static struct disproofs *disproofs_of(const struct suspect *suspect) {
    static struct disproofs none;
    return suspect->age >= LOST_AGE ? &shared->disproofs[WORD_SITE(suspect->word)] : &none;
}

static bool was_reclaimed(const struct suspect *suspect) {
    uint32_t low = 0, high = shared->doomed_count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (shared->doomed[middle].base < suspect->base)
            low = middle + 1;
        else
            high = middle;
    }
    const struct doomed *doomed = &shared->doomed[low];
    return low < shared->doomed_count && doomed->base == suspect->base &&
           doomed->word == suspect->word && doomed->done;
}

static void see_gone(const struct suspect *suspect) {
    struct disproofs *wrong = disproofs_of(suspect);
    if (was_reclaimed(suspect)) {
        wrong->reclaimed++;
        wrong->reclaimed_bytes += suspect->bytes - WORD_UNUSED(suspect->word);
    } else {
        wrong->freed++;
    }
}

/* The suspect of the round before that is this very block, or NULL. Those that it passes are gone.
 */
static const struct suspect *known_as(uintptr_t base, uint64_t word) {
    for (; before_next < before->count; before_next++) {
        const struct suspect *suspect = &before->suspect[before_next];
        if (suspect->base > base)
            return NULL;
        if (suspect->base == base && suspect->word == word) {
            before_next++;
            return suspect;
        }
        see_gone(suspect);
    }
    return NULL;
}

static void see_reached(const struct suspect *known, struct tally *tally, size_t bytes) {
    if (known)
        disproofs_of(known)->reached++;
    tally->live++;
    tally->live_bytes += bytes;
    round_now->live++;
    round_now->live_bytes += bytes;
}

static uint8_t age_of(const struct suspect *known, uint32_t hash) {
    if (known == NULL)
        return 1;
    if (known->hash != hash) {
        disproofs_of(known)->written++;
        return 1;
    }
    return known->age < AGE_MAX ? known->age + 1 : AGE_MAX;
}

static void see_block(const struct block *block, uint64_t word) {
    const struct suspect *known = known_as(block->base, word);
    struct tally *tally = &tallies[WORD_SITE(word)];
    size_t bytes = block->bytes - WORD_UNUSED(word);
    if (GC_is_marked((void *)block->base)) {
        see_reached(known, tally, bytes);
        return;
    }
    if (now->count == SUSPECTS_MAX) {
        round_now->cut++;
        return;
    }
    uint32_t hash = hash_of(block);
    uint8_t age = age_of(known, hash);
    now->suspect[now->count++] = (struct suspect){
        .base = block->base, .word = word, .bytes = block->bytes, .hash = hash, .age = age};
    if (age < LOST_AGE)
        return;
    tally->lost++;
    tally->lost_bytes += bytes;
    round_now->lost++;
    round_now->lost_bytes += bytes;
}

/* --- which of the lost ones another lost one holds --- */

static struct suspect *suspect_at(uintptr_t address) {
    uint32_t low = 0, high = now->count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (now->suspect[middle].base <= address)
            low = middle + 1;
        else
            high = middle;
    }
    struct suspect *suspect = low > 0 ? &now->suspect[low - 1] : NULL;
    return suspect && address < suspect->base + suspect->bytes ? suspect : NULL;
}

static void see_word_of(const struct suspect *holder, uintptr_t word) {
    if (word < now->suspect[0].base)
        return;
    struct suspect *target = suspect_at(word);
    if (target == NULL || target == holder || target->held || target->age < LOST_AGE)
        return;
    target->held = true;
    tallies[WORD_SITE(target->word)].held++;
}

static void find_held(void) {
    for (uint32_t i = 0; i < now->count; i++) {
        const struct suspect *holder = &now->suspect[i];
        const uintptr_t *word = (const void *)holder->base;
        for (size_t j = 0; holder->age >= LOST_AGE && j < holder->bytes / sizeof *word; j++)
            see_word_of(holder, word[j]);
    }
}

/* Which the next round may free; those of this one have been. */
static void doom(void) {
    uint32_t count = 0;
    shared->doomed_count = 0;
    for (uint32_t i = 0; adopt_options.reclaim > 0 && i < now->count && count < DOOMED_MAX; i++) {
        const struct suspect *suspect = &now->suspect[i];
        const struct disproofs *wrong = &shared->disproofs[WORD_SITE(suspect->word)];
        if (suspect->age >= adopt_options.reclaim &&
            wrong->freed + wrong->reached + wrong->written == 0)
            shared->doomed[count++] = (struct doomed){suspect->base, suspect->word, false};
    }
    shared->doomed_count = count;
}

/* --- the report --- */

static void tell_site(uint32_t site) {
    const struct tally *tally = &tallies[site];
    const struct disproofs *wrong = &shared->disproofs[site];
    if (tally->lost + wrong->freed + wrong->reached + wrong->written + wrong->reclaimed == 0)
        return;
    struct adopt_site row = {.site = site,
                             .lost = tally->lost,
                             .lost_bytes = tally->lost_bytes,
                             .held = tally->held,
                             .live = tally->live,
                             .live_bytes = tally->live_bytes,
                             .allocated = site_at(site)->allocated,
                             .freed = wrong->freed,
                             .reached = wrong->reached,
                             .written = wrong->written,
                             .reclaimed = wrong->reclaimed,
                             .reclaimed_bytes = wrong->reclaimed_bytes};
    while (row.frames < ADOPT_FRAMES && site_at(site)->frame[row.frames] != 0) {
        row.frame[row.frames] = site_at(site)->frame[row.frames];
        row.frames++;
    }
    report_site(&row);
}

static void tell(void) {
    for (uint32_t site = 0; site < sites_count(); site++) {
        const struct disproofs *wrong = &shared->disproofs[site];
        round_now->disproofs += wrong->freed + wrong->reached + wrong->written;
        round_now->reclaimed += wrong->reclaimed;
        round_now->reclaimed_bytes += wrong->reclaimed_bytes;
    }
    if (!report_open())
        return;
    report_round(round_now);
    for (uint32_t site = 0; site < sites_count(); site++)
        tell_site(site);
    if (round_now->lost + round_now->reclaimed > 0)
        report_maps();
    report_end();
}

void suspects_round(struct adopt_round *round) {
    round_now = round;
    before = &shared->list[shared->current];
    now = &shared->list[1 - shared->current];
    now->count = 0;
    before_next = 0;
    blocks_each(see_block);
    (void)known_as(UINTPTR_MAX, 0); /* the rest is gone */
    find_held();
    doom();
    round->misfreed = atomic_load(&misfreed);
    shared->current = 1 - shared->current;
    round->judged_ns = adopt_now_ns() - round->judged_ns;
    round->why = ADOPT_JUDGED;
    tell();
}
