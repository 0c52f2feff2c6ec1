/* Large objects that were reclaimed: resident up to a bound, and never what somebody has. */
#include "harness.h"
#include "telemetry/metrics.h"
#include "gc/types.h"
#include <ebb/collector.h>
#include <ebb/mem.h>
#include <string.h>

enum { PIECES = 32, PIECE = (1 << 20) - 32, LITTLE = 2000, MIB = 1 << 20 };

static void *held[PIECES], *small[1000];

static __attribute__((noinline)) void fill(void **objects, int count, size_t bytes, int byte) {
    for (int i = 0; i < count; i++) {
        objects[i] = ebb_bytes(bytes);
        memset(objects[i], byte, bytes);
    }
}

/* Returns the bytes that were reclaimed: their blocks are free then, but mapped. A word that looks
 * like a pointer may hold some. */
static uint64_t drop(void) {
    uint64_t bytes = ebb_type_bytes_held(&ebbi_type_bytes);
    memset(held, 0, sizeof held);
    ebb_stack_clear();
    ebb_collect(EBB_CAUSE_demand);
    bytes -= ebb_type_bytes_held(&ebbi_type_bytes);
    ck_assert_uint_gt(bytes, PIECES / 4 * MIB);
    return bytes;
}

START_TEST(what_was_reclaimed_stays_resident_up_to_the_bound) {
    ebb_collect_fully(EBB_CAUSE_demand);
    fill(held, PIECES, PIECE, 1);
    uint64_t full = ebbi_process_resident();
    uint64_t spare = drop();
    ebb_free_blocks_bound(spare + MIB);
    ck_assert_uint_gt(ebbi_process_resident() + 2 * MIB, full);
    ebb_free_blocks_bound(spare / 4);
    uint64_t left = full - ebbi_process_resident();
    ck_assert_uint_gt(left + 2 * MIB, spare / 4 * 3);
    ck_assert_uint_lt(left, spare / 4 * 3 + 2 * MIB);
}
END_TEST

START_TEST(what_took_the_place_keeps_its_bytes) {
    unsigned char old[LITTLE];
    memset(old, 3, sizeof old);
    ebb_collect_fully(EBB_CAUSE_demand);
    fill(held, PIECES, PIECE, 1);
    drop();
    fill(small, 1000, LITTLE, 3);
    fill(held, PIECES / 2, PIECE / 2, 2);
    fill(held + PIECES / 2, 4, 3 * PIECE, 2);
    ebb_free_blocks_bound(0);
    for (int i = 0; i < 1000; i++)
        ck_assert_int_eq(memcmp(small[i], old, LITTLE), 0);
    for (int i = 0; i < PIECES / 2 + 4; i++) {
        size_t bytes = i < PIECES / 2 ? PIECE / 2 : 3 * PIECE;
        const unsigned char *byte = held[i];
        ck_assert(byte[0] == 2 && memcmp(byte, byte + 1, bytes - 1) == 0);
    }
}
END_TEST

HARNESS_MAIN_COLLECTED("free_blocks", what_was_reclaimed_stays_resident_up_to_the_bound,
                       what_took_the_place_keeps_its_bytes)
