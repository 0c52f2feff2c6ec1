"""memcache -- a round of python3-memcache: HOST PORT."""
import sys
import time

sys.path.pop(0)  # this file has the client's name
import memcache  # noqa: E402


def check(what, so):
    if not so:
        sys.exit(f"not so: {what}")


def connect():
    return memcache.Client([":".join(sys.argv[1:3])], cache_cas=True, server_max_value_length=2 << 20, dead_retry=0.1,
                           socket_timeout=10)


cache = connect()
check("set and get", cache.set("a", "hello") and cache.get("a") == "hello")
check("a miss", cache.get("absent") is None)
check("an object comes back", cache.set("o", {"x": [1, 2.5, None]}) and cache.get("o") == {"x": [1, 2.5, None]})
check("add", not cache.add("a", "x") and cache.add("b", "x"))
check("append, prepend", cache.append("a", " you") and cache.prepend("a", "oh ") and cache.get("a") == "oh hello you")
check("replace", cache.replace("a", "r") and not cache.replace("absent", "r"))
check("delete", cache.delete("a") and cache.get("a") is None)

many = {f"key-{i}": f"value-{i}" for i in range(500)}
check("set_multi", cache.set_multi(many) == [])
check("get_multi", cache.get_multi([*many, "absent"]) == many)
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
until = time.monotonic() + 10
while cache.get("short") is not None:
    check("expiry", time.monotonic() < until)
    time.sleep(0.05)
check("touched", cache.get("touched") == 1)

large = "0123456789" * 100000
check("a large value", cache.set("large", large) and cache.get("large") == large)
check("stats", int(cache.get_stats()[0][1]["curr_items"]) > 0)

print("restart", flush=True)
sys.stdin.readline()
until = time.monotonic() + 10
while not (cache.set("again", 1) and cache.get("again") == 1):
    check("after the restart", time.monotonic() < until)
    time.sleep(0.05)
check("a new server is empty", cache.get("touched") is None)

cache.disconnect_all()
cache = connect()
check("a new connection", cache.get("again") == 1)
cache.flush_all()
check("flush", cache.get("again") is None)
