/* hash -- xxh3 is compiled in here, so that short keys cost no call through a shared library. */
#include <ebb/hash.h>

#include <ebb/clock.h>
#include <sys/random.h>
#include <unistd.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

uint64_t ebb_hash(const void *bytes, size_t length, uint64_t seed) {
    return XXH3_64bits_withSeed(bytes, length, seed);
}

uint64_t ebb_hash_seed(void) {
    uint64_t seed;
    if (getrandom(&seed, sizeof(seed), 0) == (ssize_t)sizeof(seed))
        return seed;
    /* A kernel without getrandom: the time is guessable, but better than a constant. */
    uint64_t guess[3] = {ebb_clock_unix_ns(), ebb_clock_ns(), (uint64_t)getpid()};
    return XXH3_64bits(guess, sizeof(guess));
}
