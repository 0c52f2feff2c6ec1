/* probe -- static tracepoints (USDT) of provider "ebb", for bpftrace and perf.
 *
 *   bpftrace -e 'usdt:/usr/local/bin/ebbd:ebb:collection { printf("%d us\n", arg1 / 1000); }'
 *
 *   request(line, length, requests, ns)   a measured iteration: its first request's line, how many
 *                                         requests there were, its time
 *   eviction(segment, how, bytes)         a segment leaves: 0 by policy, 1 by cleaning
 *   collection(cause, pause_ns, live)     enum ebb_cause, time the world stood still, live bytes
 *   resource_open(class, fd)              enum ebb_resource_class
 *   resource_close(class, fd)
 *
 * A probe that nobody uses is one nop. Without <sys/sdt.h> (Debian: systemtap-sdt-dev) it is
 * nothing. */
#ifndef EBB_PROBE_H
#define EBB_PROBE_H

#if defined(__has_include)
#if __has_include(<sys/sdt.h>)
#define EBB_PROBE_USDT 1
#endif
#endif

#ifdef EBB_PROBE_USDT
/* Registers and constants only: bpftrace 0.17 reads the wrong place for an argument that is a
 * static object's member. */
#ifndef STAP_SDT_ARG_CONSTRAINT
#define STAP_SDT_ARG_CONSTRAINT nr
#endif
#include <sys/sdt.h>
#define EBB_PROBE2(name, a, b)       DTRACE_PROBE2(ebb, name, a, b)
#define EBB_PROBE3(name, a, b, c)    DTRACE_PROBE3(ebb, name, a, b, c)
#define EBB_PROBE4(name, a, b, c, d) DTRACE_PROBE4(ebb, name, a, b, c, d)
#else
#define EBB_PROBE2(name, a, b)       ((void)(a), (void)(b))
#define EBB_PROBE3(name, a, b, c)    ((void)(a), (void)(b), (void)(c))
#define EBB_PROBE4(name, a, b, c, d) ((void)(a), (void)(b), (void)(c), (void)(d))
#endif

#endif
