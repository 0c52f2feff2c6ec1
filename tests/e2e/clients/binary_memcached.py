"""binary_memcached -- a round of python3-binary-memcached, the binary protocol in plain Python: HOST PORT."""
import sys
import time

import bmemcached
from bmemcached.exceptions import MemcachedException


def check(what, so):
    if not so:
        sys.exit(f"not so: {what}")


def connect():
    return bmemcached.Client((":".join(sys.argv[1:3]),), compression=None, socket_timeout=10)


def wait_until(what, so):
    """Asks again until it is so."""
    until = time.monotonic() + 10
    while not so():
        check(what, time.monotonic() < until)
        time.sleep(0.05)


cache = connect()
check("set and get", cache.set("a", "hello") and cache.get("a") == "hello")
check("a miss", cache.get("absent") is None)
check("an object comes back", cache.set("o", {"x": [1, 2.5, None]}) and cache.get("o") == {"x": [1, 2.5, None]})
check("add", not cache.add("a", "x") and cache.add("b", "x"))
check("replace", cache.replace("a", "r") and not cache.replace("absent", "r"))
check("delete", cache.delete("a") and cache.get("a") is None)

many = {f"key-{i}": f"value-{i}" for i in range(500)}
check("set_multi", cache.set_multi(many) == [])
check("get_multi", cache.get_multi([*many, "absent"]) == many)
value, seen = cache.gets("key-1")
check("cas", value == "value-1" and cache.cas("key-1", "mine", seen) and cache.get("key-1") == "mine")
check("cas of an old version", not cache.cas("key-1", "old", seen) and cache.get("key-1") == "mine")

check("counting", cache.incr("n", 1, default=41) == 41 and cache.incr("n", 1) == 42 and cache.decr("n", 50) == 0)
check("a short life", cache.set("short", 1, 1))
wait_until("expiry", lambda: cache.get("short") is None)

large = "0123456789" * 100000
check("a large value", cache.set("large", large) and cache.get("large") == large)
check("stats", int(list(cache.stats().values())[0]["curr_items"]) > 0)
# What a user with a password sees where there is none, as with a memcached built without SASL.
try:
    bmemcached.Client((":".join(sys.argv[1:3]),), "user", "password").set("a", 1)
    answered = True
except MemcachedException:
    answered = False
check("a password that nobody asks for", answered)

print("restart", flush=True)
sys.stdin.readline()
wait_until("after the restart", lambda: cache.set("again", 1) and cache.get("again") == 1)
check("a new server is empty", cache.get("key-1") is None)

cache.disconnect_all()
cache = connect()
check("a new connection", cache.get("again") == 1)
check("flush", cache.flush_all() and cache.get("again") is None)
