/* page -- the page at "/" for people: files of page/, put into the program when it is built.
 *
 * It loads nothing from another host and runs no script that stands in the page itself; the policy
 * below makes the browser insist on that. What it shows it asks /debug/status for, like anybody
 * else could. */
#include "admin.h"
#include <page_files.h> /* made when it is built, by cmake/embed.cmake */
#include <string.h>

#define FILE_OF(id, path, help, type)                                                              \
    { path, help, type, id, sizeof(id) }

static const struct file {
    const char *path, *help, *type;
    const unsigned char *bytes;
    size_t size;
} files[] = {
    FILE_OF(page_index_html, "/", "the live page", "text/html; charset=utf-8"),
    FILE_OF(page_page_css, "/page.css", NULL, "text/css; charset=utf-8"),
    FILE_OF(page_page_js, "/page.js", NULL, "text/javascript; charset=utf-8"),
    FILE_OF(page_chart_js, "/chart.js", NULL, "text/javascript; charset=utf-8"),
    FILE_OF(page_tables_js, "/tables.js", NULL, "text/javascript; charset=utf-8"),
    FILE_OF(page_units_js, "/units.js", NULL, "text/javascript; charset=utf-8"),
    FILE_OF(page_icon_svg, "/icon.svg", NULL, "image/svg+xml"),
};

#define FILES (sizeof(files) / sizeof(files[0]))

void ebbi_page_headers(struct ebb_http_request *request) {
    ebb_http_reply_header(
        request, "Content-Security-Policy",
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
        "connect-src 'self'; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'");
    ebb_http_reply_header(request, "Referrer-Policy", "no-referrer");
    ebb_http_reply_header(request, "Cross-Origin-Opener-Policy", "same-origin");
    ebb_http_reply_header(request, "Cross-Origin-Resource-Policy", "same-origin");
}

static void file_page(struct ebb_http_request *request, void *arg) {
    (void)arg;
    const struct file *file = files;
    while (strcmp(file->path, ebb_http_path(request)) != 0)
        file++; /* only paths of files come here */
    struct ebb_writer *body = ebb_http_body(request);
    body->write(body, (const char *)file->bytes, file->size);
    ebbi_page_headers(request);
    ebb_http_reply(request, 200, file->type);
}

void ebbi_page_add(void) {
    for (size_t i = 0; i < FILES; i++)
        ebbi_admin_page_read_only(files[i].path, files[i].help, NULL, file_page);
}
