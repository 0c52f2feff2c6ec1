"""memcache_round -- a round of python3-memcache: HOST PORT."""
import sys

import memcache
from rounds import check, check_append, check_basics, check_restart, wait_until


def connect():
    return memcache.Client([":".join(sys.argv[1:3])], cache_cas=True, server_max_value_length=2 << 20, dead_retry=0.1,
                           socket_timeout=10)


cache = connect()
check_basics(cache)
check_append(cache)
check("replace", cache.replace("a", "r") and not cache.replace("absent", "r"))
check("delete_multi", cache.delete_multi(["key-3", "key-4"]) and cache.get_multi(["key-3", "key-4"]) == {})
check("gets", cache.gets("key-1") == "value-1")
other = connect()
other.set("key-1", "other")
check("cas of an old version", not cache.cas("key-1", "mine") and cache.get("key-1") == "other")
cache.reset_cas()
cache.gets("key-1")
check("cas", cache.cas("key-1", "mine") and cache.get("key-1") == "mine")

cache.set("n", 41)
check("counting", cache.incr("n") == 42 and cache.decr("n", 50) == 0)
check("incr of an absent key", cache.incr("absent") is None)
check("touch", cache.set("short", 1, 1) and cache.set("touched", 1, 1) and cache.touch("touched", 1000))
wait_until("expiry", lambda: cache.get("short") is None)
check("touched", cache.get("touched") == 1)

check("stats", int(cache.get_stats()[0][1]["curr_items"]) > 0)

check_restart(cache, "touched")

cache.disconnect_all()
cache = connect()
check("a new connection", cache.get("again") == 1)
cache.flush_all()
check("flush", cache.get("again") is None)
