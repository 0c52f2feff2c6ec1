/* unmap -- giving pages back to the system, where the system takes them.
 *
 * The library gives the pages of free blocks back with madvise, and aborts the process when that
 * fails: in a program that locked its memory (mlockall), behind a seccomp filter, or when the
 * kernel has no memory for it. There is no function that switches unmapping off once the library
 * runs. So what it calls is here: a program's own madvise comes before libc's.
 *
 * 1. Only what concerns pages of the heap is changed: others get their errors as before.
 * 2. Pages that stay resident do no harm: the library clears what it takes into use again.
 * 3. After the first refusal nothing more is tried; what the library takes for unmapped since then
 * is resident, and counts as such. */
#include "gc/object.h"
#include "telemetry/events.h"
#include "telemetry/metrics.h"
#include <ebb/collector.h>
#include <dlfcn.h>
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#define GC_THREADS
#define GC_NO_THREAD_REDIRECTS
#include <gc.h>

static int (*next)(void *at, size_t size, int advice);
static _Atomic int refused; /* the error of the first refusal */
static _Atomic bool told;
static _Atomic uint64_t unmapped_before; /* bytes, at the first refusal */

static void refuse(int error) {
    int none = 0;
    if (!atomic_compare_exchange_strong(&refused, &none, error))
        return;
    atomic_store(&unmapped_before, GC_get_unmapped_bytes());
    ebb_gauge_set(&ebb_metric_unmapping_off, 1);
}

__attribute__((used)) int madvise(void *at, size_t size, int advice) {
    bool heap = advice == MADV_DONTNEED && GC_is_init_called() && GC_is_heap_ptr(at);
    if (heap && atomic_load_explicit(&refused, memory_order_relaxed))
        return 0;
    int result = next ? next(at, size, advice) : (int)syscall(SYS_madvise, at, size, advice);
    if (result != 0 && heap) {
        refuse(errno);
        return 0;
    }
    return result;
}

bool ebbi_unmap_start(void) {
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    *(void **)&next = dlsym(RTLD_NEXT, "madvise");
    void *probe = mmap(NULL, page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (probe == MAP_FAILED)
        return true;
    if (madvise(probe, page, MADV_DONTNEED) != 0)
        refuse(errno);
    munmap(probe, page);
    return atomic_load(&refused) == 0;
}

uint64_t ebbi_unmapped_not(void) {
    if (atomic_load_explicit(&refused, memory_order_relaxed) == 0)
        return 0;
    uint64_t now = GC_get_unmapped_bytes(), then = atomic_load(&unmapped_before);
    return now > then ? now - then : 0;
}

void ebbi_unmap_tell(void) {
    int error = atomic_load_explicit(&refused, memory_order_relaxed);
    if (error != 0 && !atomic_exchange(&told, true))
        ebb_log_event(unmapping_off, strerror(error));
}
