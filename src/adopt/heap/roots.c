/* roots -- where the program may keep pointers: every private mapping that it can read and write,
 * but for a few ranges that are known exactly.
 *
 * That covers static data, thread-local variables, the C library's own memory, whatever the
 * program maps itself, and the dynamic linker's tail pages. Left out are: the collector's heap and
 * tables, our own, the unused part of the stacks (below the stack pointer of a thread that was
 * stopped; all of a dead thread's that the C library keeps for the next one, but for its
 * descriptor), and nothing else. What the kernel keeps for epoll is a root as well.
 *
 * 1. Excluded ranges are appended and never change: no lock, so a snapshot finds the table whole.
 * 2. A dead stack counts as one only while the thread's descriptor is still in its place: memory
 * that was mapped anew is the program's.
 * 3. A mapping is cut below a stack pointer only where it is known to be that thread's stack. */
#include "heap.h"

#define GC_THREADS
#define GC_NO_THREAD_REDIRECTS
#include <gc/gc.h>
#include <gc/gc_mark.h>
#include <fcntl.h>
#include <link.h>
#include <sched.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { RANGES = 1 << 15, STACKS = 8192, MAPS_BYTES = 1 << 16, PROC_FD_LEAST = 800 };
enum { EPOLL_ENTRIES = 1 << 17, EPOLL_PROBES = 64 };

struct range {
    _Atomic uintptr_t low, high; /* high 0: not there */
};
struct stack {
    _Atomic uintptr_t low, high; /* high 0: free. Of a dead one, high is where its descriptor is */
    _Atomic bool alive;
};
struct epoll_entry {
    _Atomic uint64_t key; /* 0: free */
    _Atomic uint64_t data;
};

static struct range ranges[RANGES];
static _Atomic uint32_t ranges_used;
static struct stack stacks[STACKS];
static atomic_flag stacks_lock = ATOMIC_FLAG_INIT;
static struct epoll_entry *epolls;
static uintptr_t collector_low, collector_high;
static int proc_fd = -1;
static struct stat proc_status;

/* --- what is no root --- */

void roots_exclude(uintptr_t low, uintptr_t high) {
    uint32_t slot = atomic_fetch_add(&ranges_used, 1);
    if (slot >= RANGES) {
        atomic_store(&ranges_used, RANGES);
        return; /* it is scanned: that hides a loss, and invents none */
    }
    atomic_store(&ranges[slot].low, low);
    atomic_store(&ranges[slot].high, high);
}

static bool has_address(const struct dl_phdr_info *info, uintptr_t address, uintptr_t *low,
                        uintptr_t *high) {
    *low = UINTPTR_MAX;
    *high = 0;
    for (int i = 0; i < info->dlpi_phnum; i++) {
        if (info->dlpi_phdr[i].p_type != PT_LOAD)
            continue;
        uintptr_t from = info->dlpi_addr + info->dlpi_phdr[i].p_vaddr;
        *low = from < *low ? from : *low;
        *high =
            from + info->dlpi_phdr[i].p_memsz > *high ? from + info->dlpi_phdr[i].p_memsz : *high;
    }
    return *low <= address && address < *high;
}

static void exclude_data(const struct dl_phdr_info *info) {
    for (int i = 0; i < info->dlpi_phnum; i++) {
        const ElfW(Phdr) *header = &info->dlpi_phdr[i];
        uintptr_t from = info->dlpi_addr + header->p_vaddr;
        if (header->p_type == PT_LOAD && header->p_flags & PF_W)
            roots_exclude(from & ~(uintptr_t)(PAGE_BYTES - 1),
                          (from + header->p_memsz + PAGE_BYTES - 1) & ~(uintptr_t)(PAGE_BYTES - 1));
    }
}

static int on_library(struct dl_phdr_info *info, size_t size, void *arg) {
    (void)size, (void)arg;
    uintptr_t low, high;
    if (has_address(info, (uintptr_t)on_library, &low, &high))
        exclude_data(info);
    if (has_address(info, (uintptr_t)GC_gcollect, &low, &high)) {
        exclude_data(info);
        collector_low = low;
        collector_high = high;
    }
    return 0;
}

bool adopt_is_collector(const void *return_address) {
    return collector_low <= (uintptr_t)return_address && (uintptr_t)return_address < collector_high;
}

void roots_start(void) {
    epolls = adopt_map(sizeof *epolls * EPOLL_ENTRIES);
    dl_iterate_phdr(on_library, NULL);
    int fd = open("/proc", O_PATH | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0)
        return;
    proc_fd = fcntl(fd, F_DUPFD_CLOEXEC, PROC_FD_LEAST); /* out of the way of the program's */
    close(fd);
    if (proc_fd >= 0 && fstat(proc_fd, &proc_status) != 0)
        proc_fd = -1;
}

/* The program may have closed our descriptor, and use its number for something else. */
static bool proc_is_ours(void) {
    struct stat now;
    return proc_fd >= 0 && fstat(proc_fd, &now) == 0 && now.st_dev == proc_status.st_dev &&
           now.st_ino == proc_status.st_ino;
}

int roots_open_proc(const char *path) {
    char whole[64] = "/proc/self/";
    strncat(whole, path, sizeof whole - strlen(whole) - 1);
    long fd = syscall(SYS_openat, AT_FDCWD, whole, O_RDONLY | O_CLOEXEC);
    if (fd < 0 && proc_is_ours())
        fd = syscall(SYS_openat, proc_fd, whole + strlen("/proc/"), O_RDONLY | O_CLOEXEC);
    return (int)fd;
}

/* --- stacks --- */

static void stacks_enter(void) {
    while (atomic_flag_test_and_set(&stacks_lock))
        sched_yield();
}

static void stack_note(uintptr_t low, uintptr_t high, bool alive) {
    struct stack *place = NULL;
    stacks_enter();
    for (int i = 0; i < STACKS; i++) {
        struct stack *stack = &stacks[i];
        bool is_new = stack->low == 0; /* and so is the rest */
        if (stack->high != 0 && stack->low < high && low < stack->high)
            stack->high = 0; /* this one lies where that was */
        if (stack->high == 0 && place == NULL)
            place = stack;
        if (is_new)
            break;
    }
    if (place) {
        place->low = low;
        place->alive = alive;
        place->high = high;
    }
    atomic_flag_clear(&stacks_lock);
}

void roots_stack_alive(uintptr_t low, uintptr_t high) {
    stack_note(low, high, true);
}

void roots_stack_dead(uintptr_t low, uintptr_t self) {
    if (low != 0 && low < self)
        stack_note(low, self, false);
}

/* After a fork there is one thread; the others' descriptors are not known, so their stacks stay
 * roots as a whole. */
void roots_all_stacks_dead_but(uintptr_t low) {
    atomic_flag_clear(&stacks_lock);
    for (int i = 0; i < STACKS; i++)
        if (stacks[i].alive && stacks[i].low != low)
            stacks[i].high = 0;
}

/* --- what the kernel keeps --- */

void roots_kernel_holds(int epoll, int fd, uint64_t data) {
    if (epolls == NULL)
        return;
    uint64_t key = ((uint64_t)(uint32_t)epoll << 32 | (uint32_t)fd) + 1;
    uint32_t at = (uint32_t)((key * 0x9E3779B97F4A7C15ull) >> 40) % EPOLL_ENTRIES;
    for (int probe = 0; probe < EPOLL_PROBES; probe++, at = (at + 1) % EPOLL_ENTRIES) {
        uint64_t there = 0;
        if (atomic_load(&epolls[at].key) == key ||
            atomic_compare_exchange_strong(&epolls[at].key, &there, key) || there == key) {
            atomic_store(&epolls[at].data, data);
            return;
        }
    }
}

/* --- handing them over, in the snapshot --- */

static void push(uintptr_t low, uintptr_t high) {
    if (low < high)
        GC_push_all((void *)low, (void *)high);
}

/* The lowest stack pointer in [low, high), or high. */
static uintptr_t lowest_sp(uintptr_t low, uintptr_t high) {
    uintptr_t sp = high;
    for (uint32_t i = 0; i < stopped_count(); i++)
        if (low <= stopped_at(i)->sp && stopped_at(i)->sp < sp)
            sp = stopped_at(i)->sp;
    return sp;
}

/* What of [low, high) is not scanned, because of this stack; empty when that is nothing. The
 * mapping that holds the stack is [from, to). */
static void unused_stack(const struct stack *stack, uintptr_t from, uintptr_t to, uintptr_t *low,
                         uintptr_t *high) {
    uintptr_t end = stack->high;
    *low = *high = 0;
    if (end == 0 || stack->low < from || end > to)
        return;
    uintptr_t sp = lowest_sp(stack->low, end);
    if (sp < end) {
        *low = stack->low;
        *high = sp;
    } else if (!stack->alive && end + 2 * sizeof(void *) < to && *(uintptr_t *)end == end) {
        *low = stack->low;
        *high = end;
    }
}

/* Narrows the lowest hole in [at, to) that begins before *hole_low. */
static void see_hole(uintptr_t low, uintptr_t high, uintptr_t at, uintptr_t *hole_low,
                     uintptr_t *hole_high) {
    if (low >= high || high <= at || low >= *hole_low)
        return;
    *hole_low = low;
    *hole_high = high;
}

static void push_mapping(uintptr_t from, uintptr_t to, bool is_main_stack) {
    uintptr_t at = from, main_sp = is_main_stack ? lowest_sp(from, to) : from;
    if (main_sp < to)
        at = main_sp; /* else its thread is on a stack of its own making */
    while (at < to) {
        uintptr_t hole_low = to, hole_high = to, low, high;
        uint32_t used = ranges_used < RANGES ? ranges_used : RANGES;
        for (uint32_t i = 0; i < used; i++)
            see_hole(ranges[i].low, ranges[i].high, at, &hole_low, &hole_high);
        for (int i = 0; i < STACKS && stacks[i].low != 0; i++) {
            unused_stack(&stacks[i], from, to, &low, &high);
            see_hole(low, high, at, &hole_low, &hole_high);
        }
        push(at, hole_low);
        at = hole_high;
    }
}

static uintptr_t read_hex(const char **text) {
    uintptr_t number = 0;
    for (;; (*text)++) {
        char c = **text;
        if (c >= '0' && c <= '9')
            number = number << 4 | (uintptr_t)(c - '0');
        else if (c >= 'a' && c <= 'f')
            number = number << 4 | (uintptr_t)(c - 'a' + 10);
        else
            return number;
    }
}

/* A line of /proc/self/maps: "LOW-HIGH rw-p OFFSET DEVICE INODE   PATH". */
static void see_line(const char *line, size_t length) {
    const char *at = line;
    uintptr_t low = read_hex(&at);
    at++;
    uintptr_t high = read_hex(&at);
    if (at[1] == 'r' && at[2] == 'w' && at[4] == 'p')
        push_mapping(low, high, memmem(line, length, "[stack]", strlen("[stack]")) != NULL);
}

static bool push_maps(void) {
    static char text[MAPS_BYTES];
    size_t have = 0;
    int fd = roots_open_proc("maps");
    if (fd < 0)
        return false;
    for (;;) {
        ssize_t got = read(fd, text + have, sizeof text - have);
        if (got <= 0)
            break;
        have += (size_t)got;
        char *line = text, *end;
        while ((end = memchr(line, '\n', have - (size_t)(line - text)))) {
            see_line(line, (size_t)(end - line));
            line = end + 1;
        }
        have -= (size_t)(line - text);
        memmove(text, line, have);
    }
    close(fd);
    return true;
}

/* A coroutine's stack may be a block of the heap: all of it is a root while it runs. */
static void push_stacks_in_heap(void) {
    for (uint32_t i = 0; i < stopped_count(); i++) {
        void *base = GC_base((void *)stopped_at(i)->sp);
        if (base)
            push((uintptr_t)base, (uintptr_t)base + GC_size(base));
    }
}

bool roots_push(void) {
    push_stacks_in_heap();
    for (uint32_t i = 0; epolls && i < EPOLL_ENTRIES; i++)
        if (epolls[i].data != 0)
            push((uintptr_t)&epolls[i].data, (uintptr_t)(&epolls[i].data + 1));
    return push_maps();
}
