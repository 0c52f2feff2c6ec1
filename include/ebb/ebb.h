/* ebb -- all of libebb's promises. */
#ifndef EBB_EBB_H
#define EBB_EBB_H

#include <ebb/admin.h>
#include <ebb/alarm.h>
#include <ebb/assert.h>
#include <ebb/base64.h>
#include <ebb/clock.h>
#include <ebb/collector.h>
#include <ebb/daemon.h>
#include <ebb/datagram.h>
#include <ebb/err.h>
#include <ebb/fd.h>
#include <ebb/hash.h>
#include <ebb/heap.h>
#include <ebb/http.h>
#include <ebb/inventory.h>
#include <ebb/leak.h>
#include <ebb/list.h>
#include <ebb/listener.h>
#include <ebb/log.h>
#include <ebb/loop.h>
#include <ebb/mem.h>
#include <ebb/metric.h>
#include <ebb/pressure.h>
#include <ebb/resource.h>
#include <ebb/probe.h>
#include <ebb/scope.h>
#include <ebb/setting.h>
#include <ebb/span.h>
#include <ebb/thread.h>
#include <ebb/trace.h>
#include <ebb/watchdog.h>
#include <ebb/worker.h>
#include <ebb/writer.h>

#endif
