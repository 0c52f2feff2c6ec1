"""binary_memcached -- a round of python3-binary-memcached, the binary protocol in plain Python: HOST PORT."""
import sys

import bmemcached
from bmemcached.exceptions import MemcachedException
from rounds import check, check_basics, check_cas, check_restart, wait_until


def connect():
    return bmemcached.Client((":".join(sys.argv[1:3]),), compression=None, socket_timeout=10)


cache = connect()
check_basics(cache)
check("replace", cache.replace("b", "r") and not cache.replace("absent", "r"))
check_cas(cache)

check("counting", cache.incr("n", 1, default=41) == 41 and cache.incr("n", 1) == 42 and cache.decr("n", 50) == 0)
check("a short life", cache.set("short", 1, 1))
wait_until("expiry", lambda: cache.get("short") is None)

check("stats", int(list(cache.stats().values())[0]["curr_items"]) > 0)
# What a user with a password sees where there is none, as with a memcached built without SASL.
try:
    bmemcached.Client((":".join(sys.argv[1:3]),), "user", "password").set("a", 1)
    answered = True
except MemcachedException:
    answered = False
check("a password that nobody asks for", answered)

check_restart(cache, "key-1")

cache.disconnect_all()
cache = connect()
check("a new connection", cache.get("again") == 1)
check("flush", cache.flush_all() and cache.get("again") is None)
