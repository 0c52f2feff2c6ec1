/* paths -- where each block was asked for: the full call path, at the price of a few loads.
 *
 * A path is unwound once. The tree of all paths (a node for each return address, by its caller's
 * node) remembers where on the stack the next return address lay, so that the same path is
 * afterwards verified rather than unwound: read the word there, look it up, go on.
 *
 * 1. A node is written once, before its number is in the hash table. A place that turns out wrong
 * is corrected, and then unwound again.
 * 2. Only this thread's stack is read, between the call and the stack's end. On another stack (a
 * coroutine's, a signal's) the caller alone is known.
 * 3. When the tables are full, further paths are site 0. */
#include "heap.h"

#include <sched.h>
#include <string.h>
#include <unwind.h>

enum { NODES = 1 << 16, SLOTS = 2 * NODES, PROBES = 32, SITES = 1 << 16, STACK_READ_MAX = 1 << 20 };

/* Of which the first nodes are children. */
enum { ROOT = 0, ROOT_OF_CALLERS = NODES - 1 };

struct node {
    uint64_t key;
    _Atomic uint32_t next; /* bytes above the call's address; 0: the path ends here */
    _Atomic uint32_t site;
    _Atomic uint32_t child; /* the one that was found last: mostly it is the next one too */
};

static struct node *nodes;      /* by number, in the order in which they came: close together */
static _Atomic uint32_t *slots; /* a hash table of their numbers; 0: free */
static struct site *sites;
static _Atomic uint32_t nodes_used, sites_used;
static atomic_flag writing = ATOMIC_FLAG_INIT;

bool paths_start(void) {
    nodes = adopt_map(sizeof *nodes * NODES);
    slots = adopt_map(sizeof *slots * SLOTS);
    sites = adopt_map(sizeof *sites * SITES);
    return nodes != NULL && slots != NULL && sites != NULL;
}

/* Another thread may have been writing; it is not in the child. */
void paths_forked(void) {
    atomic_flag_clear(&writing);
}

uint32_t sites_count(void) {
    return atomic_load_explicit(&sites_used, memory_order_acquire) + 1;
}

struct site *site_at(uint32_t site) {
    return &sites[site];
}

static uint64_t key_of(uint32_t parent, uintptr_t address) {
    return ((uint64_t)parent << 47 ^ address) | 1ull << 63;
}

static uint32_t start_of(uint64_t key) {
    return (uint32_t)((key * 0x9E3779B97F4A7C15ull) >> 47) % SLOTS;
}

static bool is_full(void) {
    return nodes_used >= NODES - 2;
}

/* The node's number, or 0. */
static inline uint32_t node_find(uint32_t parent, uintptr_t address) {
    uint64_t key = key_of(parent, address);
    uint32_t at = start_of(key);
    for (int probe = 0; probe < PROBES; probe++, at = (at + 1) % SLOTS) {
        uint32_t number = atomic_load_explicit(&slots[at], memory_order_acquire);
        if (number == 0)
            break;
        if (nodes[number].key == key)
            return number;
    }
    return 0;
}

static inline uint32_t node_follow(uint32_t parent, uintptr_t address) {
    uint32_t child = atomic_load_explicit(&nodes[parent].child, memory_order_acquire);
    if (__builtin_expect(nodes[child].key == key_of(parent, address), 1))
        return child;
    child = node_find(parent, address);
    if (child)
        atomic_store_explicit(&nodes[parent].child, child, memory_order_release);
    return child;
}

static uint32_t node_make(uint32_t parent, uintptr_t address) {
    uint32_t found = node_find(parent, address);
    if (found || is_full())
        return found;
    uint64_t key = key_of(parent, address);
    uint32_t at = start_of(key);
    for (int probe = 0; probe < PROBES; probe++, at = (at + 1) % SLOTS)
        if (atomic_load_explicit(&slots[at], memory_order_relaxed) == 0) {
            uint32_t number = ++nodes_used;
            nodes[number].key = key;
            atomic_store_explicit(&slots[at], number, memory_order_release);
            return number;
        }
    return 0;
}

/* --- unwinding, the first time --- */

struct unwinding {
    uintptr_t sp;
    uint32_t frames, frames_max;
    uintptr_t frame[ADOPT_FRAMES];
    uint32_t offset[ADOPT_FRAMES];
};

static _Unwind_Reason_Code on_frame(struct _Unwind_Context *context, void *arg) {
    struct unwinding *self = arg;
    uintptr_t address = _Unwind_GetIP(context);
    if (self->frames == 0) { /* ours come first */
        if (address != *(uintptr_t *)self->sp)
            return _URC_NO_REASON;
        self->frame[self->frames++] = address;
        return _URC_NO_REASON;
    }
    uintptr_t at =
        _Unwind_GetCFA(context) - sizeof(void *); /* of the frame below: its return address */
    if (address == 0 || self->frames == self->frames_max || at <= self->sp ||
        at - self->sp > STACK_READ_MAX || *(uintptr_t *)at != address)
        return _URC_END_OF_STACK;
    self->offset[self->frames] = (uint32_t)(at - self->sp);
    self->frame[self->frames++] = address;
    return _URC_NO_REASON;
}

static uint32_t new_site(const struct unwinding *path) {
    if (sites_used >= SITES - 2)
        return 0;
    memcpy(sites[sites_used + 1].frame, path->frame, sizeof path->frame);
    return atomic_fetch_add_explicit(&sites_used, 1, memory_order_release) + 1;
}

static uint32_t remember(const struct unwinding *path, uint32_t parent) {
    for (uint32_t i = 0; i < path->frames; i++) {
        uint32_t node = node_make(parent, path->frame[i]);
        if (node == 0)
            return 0;
        atomic_store_explicit(&nodes[node].next, i + 1 < path->frames ? path->offset[i + 1] : 0,
                              memory_order_release);
        parent = node;
    }
    if (nodes[parent].site == 0)
        nodes[parent].site = new_site(path);
    return nodes[parent].site;
}

static bool is_on_own_stack(uintptr_t sp) {
    return adopt_me.stack_low <= sp && sp < adopt_me.stack_high;
}

static uint32_t unwind(uintptr_t sp, uint32_t root) {
    struct unwinding path = {.sp = sp, .frames_max = ADOPT_FRAMES};
    if (adopt_me.inside || is_full())
        return 0;
    adopt_me.inside = true;
    if (root == ROOT)
        _Unwind_Backtrace(on_frame, &path);
    if (path.frames == 0)
        path.frame[path.frames++] = *(uintptr_t *)sp;
    while (atomic_flag_test_and_set(&writing))
        sched_yield();
    uint32_t site = remember(&path, root);
    atomic_flag_clear(&writing);
    adopt_me.inside = false;
    return site;
}

/* --- the same path again --- */

uint32_t path_site(uintptr_t sp) {
    uint32_t root = is_on_own_stack(sp) ? ROOT : ROOT_OF_CALLERS, node = root, site = 0;
    uintptr_t at = sp;
    for (int depth = 0; depth < ADOPT_FRAMES && site == 0; depth++) {
        node = node_follow(node, *(uintptr_t *)at);
        if (node == 0)
            break;
        uint32_t next = atomic_load_explicit(&nodes[node].next, memory_order_relaxed);
        if (next == 0) {
            site = atomic_load_explicit(&nodes[node].site, memory_order_acquire);
            break;
        }
        at = sp + next;
        if (at >= adopt_me.stack_high || at < adopt_me.stack_low)
            break;
    }
    if (__builtin_expect(site == 0, 0))
        site = unwind(sp, root);
    struct site *there = &sites[site];
    atomic_store_explicit(&there->allocated,
                          atomic_load_explicit(&there->allocated, memory_order_relaxed) + 1,
                          memory_order_relaxed);
    return site;
}
