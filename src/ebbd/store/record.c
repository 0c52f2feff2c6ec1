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

void attributes_start(const struct store *store, struct segment_entry *entry, uint32_t now) {
    uint64_t cas = atomic_load_explicit(&store->cas, memory_order_relaxed);
    atomic_store_explicit(&entry->born, now > BORN_EARLIER ? now - BORN_EARLIER : 0,
                          memory_order_relaxed);
    atomic_store_explicit(&entry->cas_base, cas > CAS_AHEAD ? cas - CAS_AHEAD : 0,
                          memory_order_relaxed);
}

static struct attributes read_header(const struct segment_entry *entry, const struct record *record,
                                     uint64_t header) {
    uint64_t stamp = atomic_load_explicit(&record->stamp, memory_order_relaxed);
    if (header_wide(header)) {
        uint64_t times = atomic_load_explicit(&record->times, memory_order_relaxed);
        return (struct attributes){(uint32_t)(times >> 32), (uint32_t)times, stamp};
    }
    uint32_t after = stamp & STAMP_EXPIRES_MAX;
    uint32_t born = atomic_load_explicit(&entry->born, memory_order_relaxed);
    uint64_t base = atomic_load_explicit(&entry->cas_base, memory_order_relaxed);
    return (struct attributes){0, after ? born + after : 0, base + (stamp >> STAMP_CAS_SHIFT)};
}

struct attributes attributes_read(const struct segment_entry *entry, const struct record *record,
                                  uint64_t header) {
    struct attributes attributes = read_header(entry, record, header);
    if (atomic_load_explicit(&entry->flushed, memory_order_relaxed))
        attributes.expires = LONG_OVER;
    return attributes;
}

void attributes_write(const struct segment_entry *entry, struct record *record, bool wide,
                      const struct attributes *attributes) {
    if (wide) {
        atomic_store_explicit(&record->stamp, attributes->cas, memory_order_relaxed);
        atomic_store_explicit(&record->times,
                              (uint64_t)attributes->client_flags << 32 | attributes->expires,
                              memory_order_relaxed);
        return;
    }
    uint32_t after = 0;
    if (attributes->expires != 0)
        after = attributes->expires > entry->born ? attributes->expires - entry->born : 1;
    atomic_store_explicit(&record->stamp,
                          (attributes->cas - entry->cas_base) << STAMP_CAS_SHIFT | after,
                          memory_order_relaxed);
}

bool attributes_fit(const struct segment_entry *entry, const struct attributes *attributes) {
    return attributes->client_flags == 0 && attributes->cas >= entry->cas_base &&
           (attributes->cas - entry->cas_base) >> STAMP_CAS_BITS == 0 &&
           (attributes->expires < entry->born ||
            attributes->expires - entry->born <= STAMP_EXPIRES_MAX);
}

bool attributes_likely_narrow(const struct store *store, const struct attributes *attributes,
                              uint32_t now) {
    uint64_t cas = atomic_load_explicit(&store->cas, memory_order_relaxed);
    uint64_t apart = attributes->cas > cas ? attributes->cas - cas : cas - attributes->cas;
    return attributes->client_flags == 0 && (attributes->cas == 0 || apart < CAS_AHEAD / 2) &&
           (attributes->expires < now || attributes->expires - now < EXPIRES_LIKELY);
}

bool record_move(struct store *store, struct slot_ref slot_at,
                 const struct store_reservation *reservation, uint64_t freq) {
    uint64_t slot = slot_load(slot_at);
    struct target target = slot_target(store, slot);
    struct record *from = target.record, *to = reservation->record;
    struct segment_entry *to_entry = reservation->entry;
    uint64_t header = atomic_load_explicit(&from->header, memory_order_relaxed);
    struct attributes attributes = attributes_read(target.entry, from, header);
    if (!reservation->wide && !attributes_fit(to_entry, &attributes))
        return false;
    uint32_t key_length = header_key_length(header),
             value_length = segment_value_length(target.entry, header);
    uint64_t fresh = header_make(key_length, header_item_flags(header), reservation->wide,
                                 to_entry->huge ? RECORD_HUGE : value_length,
                                 (uint32_t)(header >> LEAD_ACCESS_SHIFT));
    memcpy(record_key(to, fresh), record_key(from, header), key_length + value_length);
    attributes_write(to_entry, to, reservation->wide, &attributes);
    atomic_store_explicit(&to->header, fresh, memory_order_release);
    segment_expires_raise(to_entry, attributes.expires);
    segment_live_add(to_entry, reservation->size);
    slot_store(slot_at, (slot & tag_mask(store)) | freq | segment_slot_bits(to_entry) |
                            address_make(store, reservation->segment_id, reservation->offset));
    segment_slot_gone(store, slot);
    return true;
}
