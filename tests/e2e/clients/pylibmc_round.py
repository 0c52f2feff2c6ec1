"""pylibmc_round -- a round of python3-pylibmc, Python over libmemcached: HOST PORT text|binary."""
import sys
import time

import pylibmc


def check(what, so):
    if not so:
        sys.exit(f"not so: {what}")


def connect():
    return pylibmc.Client([":".join(sys.argv[1:3])], binary=sys.argv[3] == "binary",
                          behaviors={"cas": True, "tcp_nodelay": True, "retry_timeout": 1})


def replaced_absent(cache):
    """In binary, absence is an exception."""
    try:
        return cache.replace("absent", "r")
    except pylibmc.NotFound:
        return False


def wait_until(what, so):
    """Asks again until it is so."""
    until = time.monotonic() + 10
    while True:
        try:
            if so():
                return
        except pylibmc.Error:
            pass
        check(what, time.monotonic() < until)
        time.sleep(0.05)


cache = connect()
check("set and get", cache.set("a", "hello") and cache.get("a") == "hello")
check("a miss", cache.get("absent") is None)
check("an object comes back", cache.set("o", {"x": [1, 2.5, None]}) and cache.get("o") == {"x": [1, 2.5, None]})
check("add", not cache.add("a", "x") and cache.add("b", "x"))
check("append, prepend", cache.append("a", " you") and cache.prepend("a", "oh ") and cache.get("a") == "oh hello you")
check("replace", cache.replace("a", "r") and not replaced_absent(cache))
check("delete", cache.delete("a") and cache.get("a") is None)

many = {f"key-{i}": f"value-{i}" for i in range(500)}
check("set_multi", cache.set_multi(many) == [])
check("get_multi", cache.get_multi([*many, "absent"]) == many)
check("delete_multi", cache.delete_multi(["key-3", "key-4"]) and cache.get_multi(["key-3", "key-4"]) == {})
value, seen = cache.gets("key-1")
check("cas", value == "value-1" and cache.cas("key-1", "mine", seen) and cache.get("key-1") == "mine")
check("cas of an old version", not cache.cas("key-1", "old", seen) and cache.get("key-1") == "mine")

cache.set("n", 41)
check("counting", cache.incr("n") == 42 and cache.decr("n", 50) == 0)
check("incr_multi", cache.set_multi({"m1": 1, "m2": 2}) == [] and cache.incr_multi(["m1", "m2"], delta=10) is None
      and cache.get_multi(["m1", "m2"]) == {"m1": 11, "m2": 12})
check("touch", cache.set("short", 1, 1) and cache.set("touched", 1, 1) and cache.touch("touched", 1000))
wait_until("expiry", lambda: cache.get("short") is None)
check("touched", cache.get("touched") == 1)

large = "0123456789" * 100000
check("a large value", cache.set("large", large) and cache.get("large") == large)
check("compressed", cache.set("large", large, min_compress_len=1000) and cache.get("large") == large)
check("stats", int(cache.get_stats()[0][1]["curr_items"]) > 0)

print("restart", flush=True)
sys.stdin.readline()
wait_until("after the restart", lambda: cache.set("again", 1) and cache.get("again") == 1)
check("a new server is empty", cache.get("touched") is None)

cache.disconnect_all()
cache = connect()
check("a new connection", cache.get("again") == 1)
check("flush", cache.flush_all() and cache.get("again") is None)
