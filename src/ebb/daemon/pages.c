/* pages -- the admin address' own views of the heap, the resources and the leaks, as text.
 *
 * Text is made while others' locks are held (ebb_resources_each), where nothing may be allocated or
 * opened. So room is taken before, the text is put into it, and it is sent after. */
#include "admin.h"

#include <ebb/clock.h>
#include <ebb/collector.h>
#include <ebb/fd.h>
#include <ebb/leak.h>
#include <ebb/mem.h>
#include <stdio.h>

#define TYPES_MAX          256
#define RESOURCE_LINE_MAX  256
#define RESOURCE_ROOM_MORE 64 /* lines for what opens between counting and looking */
#define SITE_TEXT_MAX      1024

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

static void write_resource(const struct ebb_resource_view *view, void *context) {
    uint64_t age_ns = ebb_clock_ns() - view->opened_ns;
    ebb_writef(context, "%-10s %6d  %-16s %10llu  0x%-14llx %s\n",
               ebb_resource_class_name(view->kind), view->fd, view->scope ? view->scope : "",
               (unsigned long long)(age_ns / EBB_NS_PER_SECOND),
               (unsigned long long)view->opened_at, view->note);
}

static size_t resources_open(void) {
    size_t count = 0;
    for (int kind = 0; kind < EBB_RESOURCE_CLASSES; kind++)
        count += ebb_resources_count((enum ebb_resource_class)kind);
    return count;
}

static void resources_page(struct ebb_http_request *request, void *arg) {
    (void)arg;
    struct ebb_writer *body = ebb_http_body(request);
    size_t size = (resources_open() + RESOURCE_ROOM_MORE) * RESOURCE_LINE_MAX;
    char *text = ebb_try_bytes(size);
    if (text == NULL) {
        ebb_write(body, "503: no memory for so long a list\n");
        ebb_http_reply(request, 503, "text/plain; charset=utf-8");
        return;
    }
    struct ebb_array_writer array;
    ebb_array_writer_init(&array, text, size);
    size_t count = ebb_resources_each(write_resource, &array.writer);
    ebb_writef(body, "%zu open, %llu closed by a finalizer because somebody forgot\n\n", count,
               (unsigned long long)ebb_resources_forgotten());
    ebb_writef(body, "%-10s %6s  %-16s %10s  %-16s %s\n", "class", "fd", "owner", "age (s)",
               "opened at", "peer or path");
    ebb_write(body, text);
    ebb_http_reply(request, 200, "text/plain; charset=utf-8");
}

static void leaks_page(struct ebb_http_request *request, void *arg) {
    (void)arg;
    ebb_leaks_write_text(ebb_http_body(request));
    ebb_http_reply(request, 200, "text/plain; charset=utf-8");
}

void ebbi_admin_add_debug_pages(void) {
    ebbi_admin_page_read_only("/debug/heap", "the heap, and what is in it by type", heap_page);
    ebbi_admin_page_read_only("/debug/resources", "descriptors and who owns them", resources_page);
    ebbi_admin_page_read_only("/debug/leaks", "objects that died without a goodbye, by call site",
                              leaks_page);
}
