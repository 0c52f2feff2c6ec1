/* resource_page -- /debug/resources: everything that is open, who owns it and where it was opened;
 * text for people, JSON for programs.
 *
 * The table is looked at under its lock, where nothing may be allocated or opened; so entries are
 * copied into room that was taken before, and told after. Descriptors that the table does not know
 * (0-2, what libraries opened by themselves) are told too, as "unmanaged": what the kernel says of
 * them. The sum is what the process really holds. */
#include "admin.h"
#include "gc/object.h"

#include <ebb/clock.h>
#include <ebb/inventory.h>
#include <ebb/leak.h>
#include <ebb/mem.h>
#include <string.h>

#define ROOM_MORE 64 /* entries for what opens between counting and looking */
#define PLACES    64 /* call sites whose names are kept while the page is made */
#define SITE_TEXT 256

struct row {
    struct ebb_resource_view view;
    char note[48];
};

struct listing {
    struct row *rows;
    size_t count, room;
    struct ebb_writer *body;
    bool as_json, any;
    uint64_t now_ns;
    uintptr_t place[PLACES];
    char name[PLACES][SITE_TEXT];
    size_t places;
};

static void copy_row(const struct ebb_resource_view *view, void *context) {
    struct listing *listing = context;
    if (listing->count == listing->room)
        return;
    struct row *row = &listing->rows[listing->count++];
    row->view = *view;
    strncpy(row->note, view->note, sizeof(row->note) - 1);
    row->note[sizeof(row->note) - 1] = '\0';
    row->view.note = row->note;
}

/* Name of a call site; each is looked up once a page. */
static const char *place_name(struct listing *listing, uintptr_t place) {
    for (size_t i = 0; i < listing->places; i++)
        if (listing->place[i] == place)
            return listing->name[i];
    size_t at = listing->places < PLACES ? listing->places++ : PLACES - 1;
    struct ebb_site site = {.frame = {place}};
    listing->place[at] = place;
    listing->name[at][0] = '\0';
    ebb_site_describe(&site, 1, listing->name[at], SITE_TEXT);
    return listing->name[at];
}

/* All in one session, before the list is written: what reads names is open meanwhile. */
static void name_places(struct listing *listing) {
    ebbi_symbols_begin();
    for (size_t i = 0; i < listing->count && listing->places < PLACES; i++)
        place_name(listing, listing->rows[i].view.opened_at);
    ebbi_symbols_end();
}

/* What a row is told by, whatever the form. */
struct told {
    const char *kind, *owner, *what, *where;
    long long id; /* descriptor, else process, else -1 */
    uint64_t age_s, bytes;
};

static void write_member(struct ebb_writer *body, const char *name, const char *text) {
    ebb_writef(body, "\"%s\":\"", name);
    ebb_write_json_string(body, text, strlen(text));
    ebb_write(body, "\",");
}

static void write_told(struct listing *listing, const struct told *told) {
    struct ebb_writer *body = listing->body;
    if (!listing->as_json) {
        ebb_writef(body, "%-10s %7lld  %-16s %9llu  %-40s %s\n", told->kind, told->id, told->owner,
                   (unsigned long long)told->age_s, told->where, told->what);
        return;
    }
    ebb_write(body, listing->any ? ",\n{" : "\n{");
    listing->any = true;
    write_member(body, "class", told->kind);
    write_member(body, "owner", told->owner);
    write_member(body, "what", told->what);
    write_member(body, "opened_by", told->where);
    ebb_writef(body, "\"id\":%lld,\"age_seconds\":%llu,\"bytes\":%llu}", told->id,
               (unsigned long long)told->age_s, (unsigned long long)told->bytes);
}

static void write_row(struct listing *listing, const struct ebb_resource_view *view) {
    bool is_child = view->kind == EBB_RESOURCE_child;
    struct told told = {
        .kind = ebb_resource_class_name(view->kind),
        .owner = view->scope,
        .what = view->note,
        .where = place_name(listing, view->opened_at),
        .id = is_child ? (long long)view->at : view->fd,
        .age_s = (listing->now_ns - view->opened_ns) / EBB_NS_PER_SECOND,
        .bytes = view->size,
    };
    write_told(listing, &told);
}

static void write_unmanaged(int fd, const char *what, void *context) {
    struct listing *listing = context;
    for (size_t i = 0; i < listing->count; i++)
        if (listing->rows[i].view.fd == fd)
            return;
    struct told told = {.kind = "unmanaged", .owner = "", .what = what, .where = "", .id = fd};
    write_told(listing, &told);
}

static bool is_unmanaged_listed(const struct listing *listing) {
    return listing->count < listing->room;
}

static void write_all(struct listing *listing) {
    struct ebb_writer *body = listing->body;
    unsigned long long forgotten = ebb_resources_forgotten();
    if (listing->as_json)
        ebb_writef(body, "{\"open\":%zu,\"forgotten\":%llu,\"resources\":[", listing->count,
                   forgotten);
    else
        ebb_writef(body,
                   "%zu open, %llu closed by a finalizer because somebody forgot\n\n"
                   "%-10s %7s  %-16s %9s  %-40s %s\n",
                   listing->count, forgotten, "class", "id", "owner", "age (s)", "opened by",
                   "peer or path");
    for (size_t i = 0; i < listing->count; i++)
        write_row(listing, &listing->rows[i].view);
    if (is_unmanaged_listed(listing))
        ebb_descriptors_each(write_unmanaged, listing);
    ebb_write(body, listing->as_json ? "\n]}\n" : "");
}

static size_t resources_open(void) {
    size_t count = 0;
    for (int kind = 0; kind < EBB_RESOURCE_CLASSES; kind++)
        count += ebb_resources_count((enum ebb_resource_class)kind);
    return count;
}

static void refuse(struct ebb_http_request *request, int status, const char *why) {
    ebb_writef(ebb_http_body(request), "%d: %s\n", status, why);
    ebb_http_reply(request, status, "text/plain; charset=utf-8");
}

static void resources_page(struct ebb_http_request *request, void *arg) {
    (void)arg;
    const char *format = ebb_http_query(request, "format");
    const char *accept = ebb_http_header(request, "Accept");
    if (format && strcmp(format, "json") != 0 && strcmp(format, "text") != 0) {
        refuse(request, 400, "format is text or json");
        return;
    }
    struct listing *listing = ebb_try_bytes(sizeof(*listing));
    size_t room = resources_open() + ROOM_MORE;
    struct row *rows = ebb_try_bytes(room * sizeof(struct row));
    if (listing == NULL || rows == NULL) {
        refuse(request, 503, "no memory for so long a list");
        return;
    }
    memset(listing, 0, sizeof(*listing));
    listing->rows = rows;
    listing->room = room;
    listing->body = ebb_http_body(request);
    listing->now_ns = ebb_clock_ns();
    listing->as_json =
        format ? strcmp(format, "json") == 0 : accept && strstr(accept, "application/json");
    ebb_resources_each(copy_row, listing);
    name_places(listing);
    write_all(listing);
    ebb_http_reply(request, 200,
                   listing->as_json ? "application/json" : "text/plain; charset=utf-8");
    ebb_keep(rows); /* listing is not scanned */
}

void ebbi_admin_add_resource_page(void) {
    ebbi_admin_page_read_only("/debug/resources",
                              "what is open, who owns it, where it was opened; ?format=json",
                              "format", resources_page);
}
