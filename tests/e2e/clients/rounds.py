"""rounds -- what the rounds of Python's clients have in common."""
import sys
import time

SECONDS_MAX = 10
MANY = {f"key-{i}": f"value-{i}" for i in range(500)}
LARGE = "0123456789" * 100000


def check(what, so):
    if not so:
        sys.exit(f"not so: {what}")


def wait_until(what, so, *passing):
    """Asks again until it is so. passing: exceptions that mean not yet."""
    until = time.monotonic() + SECONDS_MAX
    while True:
        try:
            if so():
                return
        except passing:
            pass
        check(what, time.monotonic() < until)
        time.sleep(0.05)


def check_basics(cache):
    check("set and get", cache.set("a", "hello") and cache.get("a") == "hello")
    check("a miss", cache.get("absent") is None)
    check("an object comes back", cache.set("o", {"x": [1, 2.5, None]}) and cache.get("o") == {"x": [1, 2.5, None]})
    check("add", not cache.add("a", "x") and cache.add("b", "x"))
    check("delete", cache.delete("a") and cache.get("a") is None)
    check("set_multi", cache.set_multi(MANY) == [])
    check("get_multi", cache.get_multi([*MANY, "absent"]) == MANY)
    check("a large value", cache.set("large", LARGE) and cache.get("large") == LARGE)


def check_append(cache):
    check("append, prepend", cache.set("a", "hello") and cache.append("a", " you") and cache.prepend("a", "oh ")
          and cache.get("a") == "oh hello you")


def check_cas(cache):
    """Of clients whose gets gives the value and its version."""
    value, seen = cache.gets("key-1")
    check("cas", value == "value-1" and cache.cas("key-1", "mine", seen) and cache.get("key-1") == "mine")
    check("cas of an old version", not cache.cas("key-1", "old", seen) and cache.get("key-1") == "mine")


def check_restart(cache, key, *passing):
    """The same client goes on with a new server, which has no key."""
    print("restart", flush=True)
    sys.stdin.readline()
    wait_until("after the restart", lambda: cache.set("again", 1) and cache.get("again") == 1, *passing)
    check("a new server is empty", cache.get(key) is None)
