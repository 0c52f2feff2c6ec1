"""pylibmc_round -- a round of python3-pylibmc, Python over libmemcached: HOST PORT text|binary."""
import sys

import pylibmc
from rounds import LARGE, check, check_append, check_basics, check_cas, check_restart, wait_until


def connect():
    return pylibmc.Client([":".join(sys.argv[1:3])], binary=sys.argv[3] == "binary",
                          behaviors={"cas": True, "tcp_nodelay": True, "retry_timeout": 1})


def replaced_absent(cache):
    """In binary, absence is an exception."""
    try:
        return cache.replace("absent", "r")
    except pylibmc.NotFound:
        return False


cache = connect()
check_basics(cache)
check_append(cache)
check("replace", cache.replace("a", "r") and not replaced_absent(cache))
check("delete_multi", cache.delete_multi(["key-3", "key-4"]) and cache.get_multi(["key-3", "key-4"]) == {})
check_cas(cache)

cache.set("n", 41)
check("counting", cache.incr("n") == 42 and cache.decr("n", 50) == 0)
check("incr_multi", cache.set_multi({"m1": 1, "m2": 2}) == [] and cache.incr_multi(["m1", "m2"], delta=10) is None
      and cache.get_multi(["m1", "m2"]) == {"m1": 11, "m2": 12})
check("touch", cache.set("short", 1, 1) and cache.set("touched", 1, 1) and cache.touch("touched", 1000))
wait_until("expiry", lambda: cache.get("short") is None, pylibmc.Error)
check("touched", cache.get("touched") == 1)

check("compressed", cache.set("large", LARGE, min_compress_len=1000) and cache.get("large") == LARGE)
check("stats", int(cache.get_stats()[0][1]["curr_items"]) > 0)

check_restart(cache, "touched", pylibmc.Error)

cache.disconnect_all()
cache = connect()
check("a new connection", cache.get("again") == 1)
check("flush", cache.flush_all() and cache.get("again") is None)
