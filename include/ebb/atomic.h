/* atomic -- atomic members that C and C++ agree on, and rows that are partly filled in both.
 *
 * EBB_ATOMIC(T) is _Atomic T in C and std::atomic<T> in C++; gcc and clang lay out both as T. The
 * functions of <stdatomic.h> (atomic_load_explicit ...) serve both.
 *
 * EBB_ROW(definition) is the definition of a table's row; g++ -Wextra would warn of the members
 * that the row leaves to the library. */
#ifndef EBB_ATOMIC_H
#define EBB_ATOMIC_H

#ifdef __cplusplus
#include <atomic>
#include <cstdint>
#define EBB_ATOMIC(type) std::atomic<type>
static_assert(sizeof(EBB_ATOMIC(uint64_t)) == sizeof(uint64_t) &&
                  alignof(EBB_ATOMIC(uint64_t)) == alignof(uint64_t),
              "an atomic member is laid out as in C");
using std::atomic_fetch_add_explicit;
using std::atomic_load_explicit;
using std::atomic_store_explicit;
using std::memory_order_acquire;
using std::memory_order_relaxed;
using std::memory_order_release;
#define EBB_ROW(...)                                                                               \
    _Pragma("GCC diagnostic push")                                                                 \
        _Pragma("GCC diagnostic ignored \"-Wmissing-field-initializers\"")                         \
            __VA_ARGS__ _Pragma("GCC diagnostic pop")
#else
#include <stdatomic.h>
#define EBB_ATOMIC(type) _Atomic(type)
#define EBB_ROW(...)     __VA_ARGS__
#endif

#endif
