/* malloc -- the C library's family of memory functions, and jemalloc's, as the program calls them.
 *
 * A pointer that is no block of ours came from the C library's malloc (before we had started, or
 * because we could not), and goes back there.
 *
 * 1. errno changes only as the standard says.
 * 2. A block without a valid word was freed before; the second free does nothing. */
#include "heap.h"

#include <errno.h>
#include <malloc.h>
#include <stdlib.h>
#include <string.h>

void *__libc_malloc(size_t bytes);
void *__libc_calloc(size_t count, size_t bytes);
void *__libc_realloc(void *at, size_t bytes);
void *__libc_memalign(size_t alignment, size_t bytes);
void __libc_free(void *at);

/* jemalloc's own functions: programs that are built for it call them. */
void *mallocx(size_t bytes, int flags);
void *rallocx(void *at, size_t bytes, int flags);
size_t sallocx(const void *at, int flags);
void dallocx(void *at, int flags);
void sdallocx(void *at, size_t bytes, int flags);
size_t nallocx(size_t bytes, int flags);
void cfree(void *at);

/* Where the return address of the function that uses it lies. */
#define CALL ((uintptr_t)__builtin_frame_address(0) + sizeof(void *))

static inline bool is_on(void) {
    int state = atomic_load_explicit(&adopt_state, memory_order_acquire);
    return __builtin_expect(state == ADOPT_ON, 1) || (state == ADOPT_OFF && adopt_start());
}

static inline void *new_block(size_t bytes, size_t alignment, uintptr_t call) {
    if (__builtin_expect(!adopt_me.known, 0) && !adopt_me.inside)
        adopt_thread_start();
    void *at = block_new(bytes, alignment, path_site(call));
    if (__builtin_expect(at == NULL, 0))
        errno = ENOMEM;
    return at;
}

static bool is_used(const struct block *block) {
    return WORD_IS_VALID(atomic_load_explicit(block->word, memory_order_relaxed));
}

static size_t room_from(const struct block *block, const void *at) {
    return block->bytes - ((uintptr_t)at - block->base);
}

ADOPT_EXPORT void *malloc(size_t bytes) {
    return is_on() ? new_block(bytes, 0, CALL) : __libc_malloc(bytes);
}

ADOPT_EXPORT void *calloc(size_t count, size_t each) {
    size_t bytes;
    struct block block;
    if (!is_on())
        return __libc_calloc(count, each);
    if (__builtin_mul_overflow(count, each, &bytes)) {
        errno = ENOMEM;
        return NULL;
    }
    void *at = new_block(bytes, 0, CALL);
    if (at && block_find(at, &block))
        block_clear(&block, bytes);
    return at;
}

ADOPT_EXPORT void free(void *at) {
    struct block block;
    if (at == NULL)
        return;
    int error = errno;
    if (!block_find(at, &block))
        __libc_free(at);
    else if (is_used(&block))
        block_free(&block);
    else
        suspects_misfreed();
    errno = error;
}

/* In place where it fits, and does not waste more than half. */
static bool resize(struct block *block, void *at, size_t bytes, uintptr_t call) {
    size_t room = room_from(block, at);
    bool is_small = block->bytes <= SMALL_MAX;
    if (bytes > room || bytes < room / 2 || room - bytes >= PAGE_BYTES ||
        is_small != (bytes <= SMALL_MAX))
        return false;
    atomic_store_explicit(block->word, word_make(++adopt_me.serial, path_site(call), room - bytes),
                          memory_order_release);
    return true;
}

static void *change(void *at, size_t bytes, uintptr_t call) {
    struct block block;
    if (at == NULL)
        return is_on() ? new_block(bytes, 0, call) : __libc_malloc(bytes);
    if (!block_find(at, &block))
        return __libc_realloc(at, bytes);
    if (bytes == 0) {
        free(at);
        return NULL;
    }
    if (resize(&block, at, bytes, call))
        return at;
    void *moved = is_on() ? new_block(bytes, 0, call) : __libc_malloc(bytes);
    if (moved) {
        size_t room = room_from(&block, at);
        memcpy(moved, at, bytes < room ? bytes : room);
        free(at);
    }
    return moved;
}

ADOPT_EXPORT void *realloc(void *at, size_t bytes) {
    return change(at, bytes, CALL);
}

ADOPT_EXPORT void *reallocarray(void *at, size_t count, size_t each) {
    size_t bytes;
    if (__builtin_mul_overflow(count, each, &bytes)) {
        errno = ENOMEM;
        return NULL;
    }
    return change(at, bytes, CALL);
}

static void *aligned(size_t alignment, size_t bytes, uintptr_t call) {
    return is_on() ? new_block(bytes, alignment, call) : __libc_memalign(alignment, bytes);
}

static bool is_power_of_two(size_t number) {
    return number != 0 && (number & (number - 1)) == 0;
}

ADOPT_EXPORT void *memalign(size_t alignment, size_t bytes) {
    while (!is_power_of_two(alignment))
        alignment++; /* as the C library does */
    return aligned(alignment, bytes, CALL);
}

ADOPT_EXPORT void *aligned_alloc(size_t alignment, size_t bytes) {
    if (!is_power_of_two(alignment)) {
        errno = EINVAL;
        return NULL;
    }
    return aligned(alignment, bytes, CALL);
}

ADOPT_EXPORT int posix_memalign(void **out, size_t alignment, size_t bytes) {
    if (alignment < sizeof(void *) || !is_power_of_two(alignment))
        return EINVAL;
    int error = errno;
    void *at = aligned(alignment, bytes, CALL);
    errno = error;
    if (at == NULL)
        return ENOMEM;
    *out = at;
    return 0;
}

ADOPT_EXPORT void *valloc(size_t bytes) {
    return aligned(PAGE_BYTES, bytes, CALL);
}

ADOPT_EXPORT void *pvalloc(size_t bytes) {
    return aligned(PAGE_BYTES, (bytes + PAGE_BYTES - 1) & ~(size_t)(PAGE_BYTES - 1), CALL);
}

ADOPT_EXPORT size_t malloc_usable_size(void *at) {
    struct block block;
    if (at == NULL)
        return 0;
    if (block_find(at, &block))
        return room_from(&block, at);
    return ((const size_t *)at)[-1] / GRANULE_BYTES * GRANULE_BYTES - sizeof(size_t);
}

ADOPT_EXPORT int malloc_trim(size_t pad) {
    (void)pad;
    return 0;
}

ADOPT_EXPORT void cfree(void *at) {
    free(at);
}

/* --- jemalloc's --- */

enum { JEMALLOC_ALIGNMENT_MASK = 0x3f, JEMALLOC_ZERO = 0x40 };

static size_t alignment_of(int flags) {
    return (size_t)1 << (flags & JEMALLOC_ALIGNMENT_MASK);
}

ADOPT_EXPORT void *mallocx(size_t bytes, int flags) {
    void *at = aligned(alignment_of(flags), bytes, CALL);
    if (at && flags & JEMALLOC_ZERO)
        memset(at, 0, bytes);
    return at;
}

ADOPT_EXPORT void *rallocx(void *at, size_t bytes, int flags) {
    (void)flags;
    return change(at, bytes, CALL);
}

ADOPT_EXPORT size_t sallocx(const void *at, int flags) {
    (void)flags;
    return malloc_usable_size((void *)(uintptr_t)at);
}

ADOPT_EXPORT size_t nallocx(size_t bytes, int flags) {
    size_t alignment = alignment_of(flags);
    return (bytes + alignment - 1) & ~(alignment - 1);
}

ADOPT_EXPORT void dallocx(void *at, int flags) {
    (void)flags;
    free(at);
}

ADOPT_EXPORT void sdallocx(void *at, size_t bytes, int flags) {
    (void)bytes, (void)flags;
    free(at);
}
