/* fault -- a libc that refuses: preloaded into a daemon, it fails the calls that a page of shared
 * memory names.
 *
 * Each row of calls.def is a function that stands before libc's. It counts the occurrences of what
 * the page wants failed, fails the ones that are due, and passes all others on. The page is a file
 * that $EBB_FAULT names; the driver (torture) writes the upper half of it at any time, also while
 * the daemon runs, and reads the lower half. Children have the same page.
 *
 * 1. Nothing here allocates, locks or calls what it stands before, so it may run in a signal
 * handler, under the collector's lock, and in a child.
 * 2. An occurrence is counted once, whichever thread or process it happens in.
 * 3. Without $EBB_FAULT, and with no call named, everything is passed on. */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <netdb.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#define CALLER       (__builtin_return_address(0))
#define SITES_MAX    8
#define MODULE_BYTES 24
#define HOUR_SECONDS 3600

enum { ANY = -1, OTHER, LIBC, DATAGRAM };               /* kinds, beside S_IFMT */
enum { NONE = 0, LESS = 1000, ON = 1001, BACK = 1002 }; /* answers, beside errno */

enum call {
#define CALL(result, name, ...) CALL_##name,
#include "calls.def"
    CALLS
};

struct site {
    char module[MODULE_BYTES];
    uint64_t offset;
};

/* shim.py has the same layout. */
struct page {
    int32_t call;          /* row of calls.def; -1: none */
    int32_t kind, answer;  /* of faults.def */
    uint32_t first, every; /* this occurrence, and each so many after it; every 0: it alone */
    _Atomic uint32_t met;  /* occurrences since it was named */
    _Atomic uint32_t failed;
    _Atomic uint32_t seen[CALLS]; /* all calls, from the start */
    struct site sites[SITES_MAX]; /* where the first failed ones were called */
};

static struct page *page;

#define CALL(result, name, parameters, ...) static result(*real_##name) parameters;
#include "calls.def"

static void map_page(const char *path) {
    long fd = syscall(SYS_open, path, O_RDWR | O_CLOEXEC);
    if (fd < 0)
        return;
    long at = syscall(SYS_mmap, NULL, sizeof(*page), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0L);
    syscall(SYS_close, fd);
    if (at > 0)
        page = (struct page *)at;
}

static void find(void *real, const char *name) {
    *(void **)real = dlsym(RTLD_NEXT, name);
}

/* All at once, before there are threads: dlsym takes a lock. */
__attribute__((constructor)) static void begin(void) {
#define CALL(result, name, ...) find(&real_##name, #name);
#include "calls.def"
    const char *path = getenv("EBB_FAULT");
    if (path)
        map_page(path);
}

/* S_IFREG and the like, S_IFSOCK for streams only; OTHER for eventfds and all that the kernel gives
 * no type. */
static unsigned kind_of(int fd) {
    struct stat about;
    int type = 0;
    socklen_t size = sizeof(type);
    if (syscall(SYS_fstat, fd, &about) != 0)
        return OTHER;
    syscall(SYS_getsockopt, fd, SOL_SOCKET, SO_TYPE, &type, &size);
    return type == SOCK_DGRAM ? DATAGRAM : about.st_mode & S_IFMT;
}

/* What libc itself allocates is passed on: 2.36 aborts in getpwnam when that fails. */
static unsigned kind_of_caller(void *caller) {
    struct dl_find_object found;
    return _dl_find_object(caller, &found) == 0 &&
                   strstr(found.dlfo_link_map->l_name, "/libc.so.") != NULL
               ? LIBC
               : OTHER;
}

static void note_site(uint32_t index, void *caller) {
    struct dl_find_object found;
    if (index >= SITES_MAX || _dl_find_object(caller, &found) != 0)
        return;
    struct site *site = &page->sites[index];
    const char *path = found.dlfo_link_map->l_name, *slash = strrchr(path, '/');
    strncpy(site->module, slash ? slash + 1 : path, MODULE_BYTES - 1);
    site->offset = (uintptr_t)caller - (uintptr_t)found.dlfo_link_map->l_addr;
}

static bool is_due(uint32_t occurrence) {
    uint32_t first = page->first, every = page->every;
    return occurrence == first ||
           (every > 0 && occurrence > first && (occurrence - first) % every == 0);
}

/* The answer to this occurrence. */
static int decide(void *caller) {
    if (!is_due(atomic_fetch_add(&page->met, 1) + 1))
        return NONE;
    note_site(atomic_fetch_add(&page->failed, 1), caller);
    return page->answer;
}

static bool is_named(int call) {
    if (page == NULL)
        return false;
    atomic_fetch_add_explicit(&page->seen[call], 1, memory_order_relaxed);
    return page->call == call;
}

static bool is_kind(unsigned kind) {
    return page->kind == ANY || page->kind == (int32_t)kind;
}

/* How a call fails. A descriptor is gone also when close reports an error. */
#define FAIL(value)                                                                                \
    errno = answer;                                                                                \
    return value
#define RETURN return answer
#define FAIL_AFTER(call)                                                                           \
    (void)real_##call;                                                                             \
    errno = answer;                                                                                \
    return -1
#define JUMP(call, seconds)                                                                        \
    int status = real_##call;                                                                      \
    seconds += answer == ON ? HOUR_SECONDS : -HOUR_SECONDS;                                        \
    return status

/* How it moves less. */
#define WHOLE      (void)0
#define LESS(size) size = size > 1 ? 1 : size
#define LESS_OF(parts, count)                                                                      \
    struct iovec byte = {parts->iov_base, parts->iov_len > 0};                                     \
    parts = &byte;                                                                                 \
    count = 1
#define LESS_OF_MESSAGE(message)                                                                   \
    struct msghdr less = *message;                                                                 \
    struct iovec byte = {less.msg_iov->iov_base, less.msg_iov->iov_len > 0};                       \
    less.msg_iov = &byte;                                                                          \
    less.msg_iovlen = 1;                                                                           \
    message = &less

/* The declaration gives the function libc's name without meeting libc's own declaration of it. */
#define CALL(result, name, parameters, arguments, kind, fails, shortens)                           \
    result fault_##name parameters __asm__(#name);                                                 \
    result fault_##name parameters {                                                               \
        if (real_##name == NULL)                                                                   \
            find(&real_##name, #name);                                                             \
        int answer = NONE;                                                                         \
        if (is_named(CALL_##name) && is_kind(kind))                                                \
            answer = decide(CALLER);                                                               \
        if (answer == NONE)                                                                        \
            return real_##name arguments;                                                          \
        if (answer == LESS) {                                                                      \
            shortens;                                                                              \
            return real_##name arguments;                                                          \
        }                                                                                          \
        fails;                                                                                     \
    }
#include "calls.def"
