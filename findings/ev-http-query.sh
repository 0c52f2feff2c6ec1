#!/usr/bin/env bash
# Guess: evhttp_parse_query_str makes a parameter without "=" one with an empty value, as every server of the web does:
#        "verbose&limit=5" has two parameters.
# Real:  it returns -1 and no parameter at all, also none of those that are well formed. So it does for "a=1&&b=2" and for
#        "=x", while "a=1&" and a stray "%zz" are accepted. A handler that takes -1 for "no parameters" drops limit=5.
# Where: libevent 2.1.12 (Debian 2.1.12-stable-8+deb12u1). A part without "=" or with an empty name ends the parse and
#        clears what was found; evhttp itself lets the request through, since the query is split only when asked for.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

unpack() { # the packages, and those of their needs that this system lacks, below root/
    apt-get install -s --no-install-recommends "$@" 2>apt.log |
        sed -nE 's/^Inst ([^ ]+) (\[[^]]*\] )?\(([^ ]+).*/\1=\3/p' | xargs apt-get download "$@" >apt.log 2>&1 ||
        { echo "not served any more (or apt-get update is due): $*" >&2; exit 2; }
    for package in *.deb; do dpkg -x "$package" root; done
}

unpack libevent-2.1-7=2.1.12-stable-8+deb12u1 libevent-dev=2.1.12-stable-8+deb12u1
cat >probe.c <<'END'
#include <event2/event.h>
#include <event2/http.h>
#include <event2/keyvalq_struct.h>
#include <stdio.h>
#include <string.h>
static int parameters(const char *query) {
    struct evkeyvalq found;
    int count = 0, status = evhttp_parse_query_str(query, &found);
    for (struct evkeyval *each = found.tqh_first; each != NULL; each = each->next.tqe_next) count++;
    printf("  %-18s returns %2d, parameters found: %d\n", query, status, count);
    evhttp_clear_headers(&found);
    return status < 0 ? -1 - count : count;
}
int main(void) {
    static const struct { const char *query; int expected; } rows[] = {
        {"verbose=1&limit=5", 2}, {"verbose&limit=5", -1}, {"limit=5&verbose", -1}, {"limit=5&&a=1", -1},
        {"=x&limit=5", -1}, {"limit=5&", 1}, {"a=%zz&limit=5", 2},
    };
    int changed = 0;
    printf("libevent %s, evhttp_parse_query_str:\n", event_get_version());
    for (unsigned i = 0; i < sizeof rows / sizeof *rows; i++) changed += parameters(rows[i].query) != rows[i].expected;
    return changed != 0;
}
END
gcc -O1 -Iroot/usr/include -Iroot/usr/include/x86_64-linux-gnu probe.c -o probe root/usr/lib/x86_64-linux-gnu/libevent-2.1.so.7
LD_LIBRARY_PATH=root/usr/lib/x86_64-linux-gnu ./probe || { echo "the behaviour has changed" >&2; exit 1; }
