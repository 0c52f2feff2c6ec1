/* record -- what an item's header keeps: client flags, expiry, cas.
 *
 * Most items have no flags, live for less than half a year, and were changed within the last half
 * trillion changes. Kept relative to their segment's birth, expiry takes 24 bits and cas 40, so the
 * header takes 16 bytes; the others take 24.
 *
 * 1. What a segment's headers are relative to is set before its first record and stays. A reader
 * who was overtaken reads nonsense, and its bucket's version says so.
 * 2. An expiry that was over when the segment was born is kept as the segment's first second: it
 * stays over. */
#include "store/internal.h"
#include <string.h>

#define CAS_AHEAD ((uint64_t)1 << (STAMP_CAS_BITS - 1)) /* half for older items that move here */

enum {
    LONG_OVER = 1,                                /* second */
    BORN_EARLIER = 2,                             /* seconds; clocks of two threads may differ */
    EXPIRES_LIKELY = STAMP_EXPIRES_MAX - 1000000, /* seconds: fits where it was open for 11 days */
};

void stamps_start(const struct store *store, struct segment_entry *entry, uint32_t now) {
    uint64_t cas = atomic_load_explicit(&store->cas, memory_order_relaxed);
    atomic_store_explicit(&entry->born, now > BORN_EARLIER ? now - BORN_EARLIER : 0,
                          memory_order_relaxed);
    atomic_store_explicit(&entry->cas_base, cas > CAS_AHEAD ? cas - CAS_AHEAD : 0,
                          memory_order_relaxed);
}

static struct stamps read_header(const struct segment_entry *entry, const struct record *record,
                                 uint64_t lead) {
    uint64_t stamp = atomic_load_explicit(&record->stamp, memory_order_relaxed);
    if (lead_wide(lead)) {
        uint64_t times = atomic_load_explicit(&record->times, memory_order_relaxed);
        return (struct stamps){(uint32_t)(times >> 32), (uint32_t)times, stamp};
    }
    uint32_t after = stamp & STAMP_EXPIRES_MAX;
    uint32_t born = atomic_load_explicit(&entry->born, memory_order_relaxed);
    uint64_t base = atomic_load_explicit(&entry->cas_base, memory_order_relaxed);
    return (struct stamps){0, after ? born + after : 0, base + (stamp >> STAMP_CAS_SHIFT)};
}

struct stamps stamps_read(const struct segment_entry *entry, const struct record *record,
                          uint64_t lead) {
    struct stamps stamps = read_header(entry, record, lead);
    if (atomic_load_explicit(&entry->flushed, memory_order_relaxed))
        stamps.expires = LONG_OVER;
    return stamps;
}

void stamps_write(const struct segment_entry *entry, struct record *record, bool wide,
                  const struct stamps *stamps) {
    if (wide) {
        atomic_store_explicit(&record->stamp, stamps->cas, memory_order_relaxed);
        atomic_store_explicit(&record->times,
                              (uint64_t)stamps->client_flags << 32 | stamps->expires,
                              memory_order_relaxed);
        return;
    }
    uint32_t after = 0;
    if (stamps->expires != 0)
        after = stamps->expires > entry->born ? stamps->expires - entry->born : 1;
    atomic_store_explicit(&record->stamp,
                          (stamps->cas - entry->cas_base) << STAMP_CAS_SHIFT | after,
                          memory_order_relaxed);
}

bool stamps_fit(const struct segment_entry *entry, const struct stamps *stamps) {
    return stamps->client_flags == 0 && stamps->cas >= entry->cas_base &&
           (stamps->cas - entry->cas_base) >> STAMP_CAS_BITS == 0 &&
           (stamps->expires < entry->born || stamps->expires - entry->born <= STAMP_EXPIRES_MAX);
}

bool stamps_likely_narrow(const struct store *store, const struct stamps *stamps, uint32_t now) {
    uint64_t cas = atomic_load_explicit(&store->cas, memory_order_relaxed);
    uint64_t apart = stamps->cas > cas ? stamps->cas - cas : cas - stamps->cas;
    return stamps->client_flags == 0 && (stamps->cas == 0 || apart < CAS_AHEAD / 2) &&
           (stamps->expires < now || stamps->expires - now < EXPIRES_LIKELY);
}

bool record_move(struct store *store, struct place place, const struct store_room *room,
                 uint64_t freq) {
    uint64_t slot = slot_load(place);
    struct target target = slot_target(store, slot);
    struct record *from = target.record, *to = room->record;
    struct segment_entry *to_entry = room->entry;
    uint64_t lead = atomic_load_explicit(&from->lead, memory_order_relaxed);
    struct stamps stamps = stamps_read(target.entry, from, lead);
    if (!room->wide && !stamps_fit(to_entry, &stamps))
        return false;
    uint32_t key_length = lead_key_length(lead),
             value_length = segment_value_length(target.entry, lead);
    uint64_t fresh = lead_make(key_length, lead_marks(lead), room->wide,
                               to_entry->huge ? RECORD_HUGE : value_length,
                               (uint32_t)(lead >> LEAD_ACCESS_SHIFT));
    memcpy(record_key(to, fresh), record_key(from, lead), key_length + value_length);
    stamps_write(to_entry, to, room->wide, &stamps);
    atomic_store_explicit(&to->lead, fresh, memory_order_release);
    segment_expires_raise(to_entry, stamps.expires);
    segment_live_add(to_entry, room->size);
    slot_store(place, (slot & tag_mask(store)) | freq | segment_slot_bits(to_entry) |
                          place_make(store, room->segment_id, room->offset));
    segment_slot_gone(store, slot);
    return true;
}
