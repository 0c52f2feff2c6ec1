/* pages -- the admin address' own views of the heap and the leaks, as text. */
#include "admin.h"

#include <ebb/collector.h>
#include <ebb/leak.h>
#include <ebb/mem.h>
#include <stdio.h>

#define TYPES_MAX     256
#define SITE_TEXT_MAX 1024

static uint64_t bytes_held(const struct ebb_type *type) {
    return type->allocated_bytes - type->gone_bytes;
}

size_t ebbi_census(const struct ebb_type **types, size_t types_max) {
    size_t count = 0;
    for (const struct ebb_type *type = ebb_types_first(); type; type = type->next) {
        size_t at = count;
        while (at > 0 && bytes_held(types[at - 1]) < bytes_held(type))
            at--;
        if (at >= types_max)
            continue;
        if (count < types_max)
            count++;
        for (size_t i = count - 1; i > at; i--)
            types[i] = types[i - 1];
        types[at] = type;
    }
    return count;
}

static void write_heap_figures(struct ebb_writer *body) {
    struct ebb_heap_record now;
    ebb_heap_now(&now);
    const struct {
        const char *what;
        uint64_t value;
    } figures[] = {
        {"heap bytes", now.heap},
        {"live bytes", now.live},
        {"free bytes", now.free},
        {"unmapped bytes", now.unmapped},
        {"resident bytes", now.rss},
        {"unmanaged bytes", now.unmanaged},
        {"dropped since the latest collection", ebb_dropped_now()},
        {"collections", now.number},
        {"leaked objects", ebb_leaks_count()},
    };
    for (size_t i = 0; i < sizeof(figures) / sizeof(figures[0]); i++)
        ebb_writef(body, "%-36s %16llu\n", figures[i].what, (unsigned long long)figures[i].value);
}

static void heap_page(struct ebb_http_request *request, void *arg) {
    (void)arg;
    static const char *const lifetimes[] = {
        [EBB_OWNED] = "owned", [EBB_SHARED] = "shared", [EBB_FOREIGN] = "foreign"};
    const struct ebb_type *types[TYPES_MAX];
    size_t count = ebbi_census(types, TYPES_MAX);
    struct ebb_writer *body = ebb_http_body(request);
    write_heap_figures(body);
    ebb_writef(body, "\n%-20s %-8s %12s %16s %14s %8s  %s\n", "type", "lifetime", "objects",
               "bytes", "allocated", "leaked", "what it is");
    for (size_t i = 0; i < count; i++)
        ebb_writef(body, "%-20s %-8s %12llu %16llu %14llu %8llu  %s\n", types[i]->name,
                   lifetimes[types[i]->lifetime],
                   (unsigned long long)(types[i]->allocated - types[i]->gone),
                   (unsigned long long)bytes_held(types[i]),
                   (unsigned long long)types[i]->allocated, (unsigned long long)types[i]->leaked,
                   types[i]->what);
    ebb_write(body,
              "\nObjects and bytes are as of the latest collection: garbage counts until then.\n");
    ebb_http_reply(request, 200, "text/plain; charset=utf-8");
}

static void leaks_page(struct ebb_http_request *request, void *arg) {
    (void)arg;
    ebb_leaks_write_text(ebb_http_body(request));
    ebb_http_reply(request, 200, "text/plain; charset=utf-8");
}

void ebbi_admin_add_debug_pages(void) {
    ebbi_admin_page_read_only("/debug/heap", "the heap, and what is in it by type", heap_page);
    ebbi_admin_add_resource_page();
    ebbi_admin_page_read_only("/debug/leaks", "objects that died without a goodbye, by call site",
                              leaks_page);
}
