/* mem -- typed memory that is collected.
 *
 * Each type is a row of a .def table:
 *     EBB_TYPE(name, scan, lifetime, "what it is")          ->  ebb_type_NAME, struct NAME
 * ebb_new(conn) gives a zeroed struct conn. Nothing here must be freed to be reclaimed; OWNED
 * objects must be released (ebb_done), and one that becomes unreachable without it is a leak:
 * counted by type and call site, logged once per site, and reclaimed all the same.
 *
 * Only these hold an object: registered threads' stacks and registers, static variables, other
 * scanned objects, and ebb_root_add'ed memory. NOT thread-local variables, libc's malloc, mmap,
 * pointer-free (BYTES) objects, the kernel. */
#ifndef EBB_MEM_H
#define EBB_MEM_H

#include <ebb/err.h>
#include <ebb/atomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/cdefs.h>

__BEGIN_DECLS

enum ebb_scan {
    EBB_POINTERS,       /* scanned for pointers, conservatively */
    EBB_BYTES,          /* never scanned: buffers, values. What it points to is not held by it */
    EBB_BYTES_BY_START, /* the same, and only a pointer to its first 4 KiB holds it: for large ones,
                           which any word that looks like a pointer into them would hold else. Who
                           works further in keeps the start (ebb_keep) */
};

enum ebb_lifetime {
    EBB_OWNED,   /* somebody must say ebb_done(p) */
    EBB_SHARED,  /* the collector decides */
    EBB_FOREIGN, /* a library's own memory behind its malloc hooks: a root until the library frees
                    it */
};

struct ebb_type {
    const char *name, *what;
    enum ebb_scan scan;
    enum ebb_lifetime lifetime;
    EBB_ATOMIC(uint64_t) allocated, allocated_bytes; /* since start */
    EBB_ATOMIC(uint64_t) gone, gone_bytes;           /* reclaimed or freed */
    EBB_ATOMIC(uint64_t) done;                       /* ebb_done said */
    EBB_ATOMIC(uint64_t) leaked, leaked_bytes;
    struct ebb_type *next; /* of all added types */
    uint32_t id;           /* 0: not added yet */
};

/* Bytes of this type's objects that the heap holds, garbage included. */
static inline uint64_t ebb_type_bytes_held(const struct ebb_type *type) {
    return atomic_load_explicit(&type->allocated_bytes, memory_order_relaxed) -
           atomic_load_explicit(&type->gone_bytes, memory_order_relaxed);
}

#define EBB_TYPE_DECLARE(name, ...) extern struct ebb_type ebb_type_##name;
#define EBB_TYPE_DEFINE(name_, scan_, lifetime_, what_)                                            \
    EBB_ROW(struct ebb_type ebb_type_##name_ = {                                                   \
                .name = #name_, .what = what_, .scan = scan_, .lifetime = lifetime_};)
#define EBB_TYPE_ADDRESS(name, ...) &ebb_type_##name,

/* Makes the types known. When: start, before their first object, before threads. Twice does
 * nothing. */
void ebb_types_add(struct ebb_type *const *types, size_t count);

/* The first of all known types; follow next. */
struct ebb_type *ebb_types_first(void);

/* Zeroed (POINTERS) or unset (BYTES) object of size bytes, 16-aligned. Never NULL: a panic when
 * memory is gone and the reserve (ebb_memory_short) too, so for sizes and counts that the program
 * chose. noinline: the call site is the caller's
 * frame. */
void *ebb_new_sized(struct ebb_type *type, size_t size)
    __attribute__((malloc, alloc_size(2), noinline));
/* The same, NULL when it cannot be had: for sizes and counts that a peer chose. */
void *ebb_try_sized(struct ebb_type *type, size_t size)
    __attribute__((malloc, alloc_size(2), noinline));

#define ebb_new(name) ((struct name *)ebb_new_sized(&ebb_type_##name, sizeof(struct name)))
#define ebb_new_extra(name, extra)                                                                 \
    ((struct name *)ebb_new_sized(&ebb_type_##name, sizeof(struct name) + (extra)))

/* Pointer-free SHARED bytes of the common type "bytes". ebb_try_bytes: NULL when they cannot be
 * had. */
void *ebb_bytes(size_t size) __attribute__((malloc, alloc_size(1)));
void *ebb_try_bytes(size_t size) __attribute__((malloc, alloc_size(1)));

/* Releases an OWNED object. The memory stays readable until the collector finds it
 * unreachable, so a late reader sees old bytes, never somebody else's. Twice, or on what is not an
 * OWNED object's start: a panic in debug builds (EBB_DEBUG), counted (ebb_misuse_total) and logged
 * otherwise. NULL is fine. */
void ebb_done(const void *object);

/* Releases an object that others may still come to after it, by design: it is not watched for
 * late use. */
void ebb_done_late(const void *object);

/* In debug builds ebb_done fills the object with 0xDB, and the collector counts those that were
 * written to after that (kind="use_after_done").
 *
 * Asks whether p is the start of an object that nobody released. If not: a panic in debug
 * builds that names its type and where it was made; counted, logged and false otherwise. */
#define ebb_assert_live(p) ebb_check_live(p, __FILE__, __LINE__)
bool ebb_check_live(const void *object, const char *file, int line);

/* Frees a FOREIGN object now. NULL is fine. */
void ebb_foreign_free(void *object);
void *ebb_foreign_realloc(struct ebb_type *type, void *object, size_t size);

/* Usable size in bytes of any object of ours, as asked for; and its type. NULL when it is none. */
const struct ebb_type *ebb_type_of(const void *object, size_t *size);

/* Scans [at, at + size) as roots from now on; for memory that is not a static variable. */
void ebb_root_add(void *at, size_t size);
void ebb_root_remove(void *at, size_t size);

/* Overwrites the stack below the caller's frame (16 KiB of it), and the vector registers. Calls
 * that have returned left pointers there, and what they pointed to is held when a later frame, as a
 * signal's, covers them without writing all of itself. For who has just let go of something large.
 * A fraction of a microsecond. */
void ebb_stack_clear(void);

/* Keeps p reachable up to this line: put after the last use of memory inside p. */
#define ebb_keep(p) __asm__ volatile("" ::"r"(p) : "memory")

__END_DECLS

#endif
