#!/usr/bin/python3
"""replay -- a trace of cache traffic through the running daemon, every hit's value verified.

    replay.py [--trace FILE.csv.zst|generated] [--requests N] [--memory MIB] [--seed N]

Look-aside, as applications do it: a get that misses is followed by a set. Requests go out in batches, gets first; the
sets, deletes and touches of the batch follow. A trace's row is ts,key,size,op,ttl.

1. A value begins with its key and version and goes on with bytes that both determine: a hit must be the last version
   that was set, whole. So a stale, foreign, mixed or cut value is found.
2. A key that was deleted, or whose lifetime is over (and a second to spare), is no hit.
3. The memory is small, so that things are evicted all the time: a miss is never wrong.
"""
import argparse
import csv
import glob
import itertools
import os
import random
import subprocess
import sys
import time
import zlib

from servers import SOURCE, Server, scaled

BATCH = 200
VALUE_MAX = 700 * 1000
TTL_MAX = 30 * 24 * 3600
CLOCK_SLACK_SECONDS = 2.5
NOISE = random.Random(7).randbytes(VALUE_MAX + 65536)


class Wrong(Exception):
    pass


def value_of(key, version, size):
    head = b"%s:%d:" % (key, version)
    at = zlib.crc32(head) & 65535
    return head + NOISE[at:at + max(0, size - len(head))]


def generated(rng):
    """Zipf-like keys, sizes that belong to the key, some short lifetimes, sets and deletes."""
    while True:
        key = int(rng.paretovariate(0.3)) % 200000
        size = 20 + zlib.crc32(b"%d" % key) % (60000 if key % 97 == 0 else 3000)
        kind = rng.random()
        op = "get" if kind < 0.9 else "set" if kind < 0.96 else "delete"
        ttl = (0, 0, 0, 1, 2, 3600)[zlib.crc32(b"t%d" % key) % 6]
        yield b"key-%d" % key, size, op, ttl


def traced(path):
    with subprocess.Popen(["zstdcat", path], stdout=subprocess.PIPE, text=True) as source:
        try:
            for row in csv.DictReader(source.stdout):
                yield row["key"].encode(), int(row["size"]), row["op"], int(row["ttl"] or 0)
        finally:
            source.kill()


def traces():
    """Traces that are here: in $EBB_TRACES, or beside the source."""
    for folder in (os.environ.get("EBB_TRACES"), os.path.join(SOURCE, "..", "shared", "data")):
        if folder and (found := sorted(p for p in glob.glob(os.path.join(folder, "*.csv.zst")) if has_keys(p))):
            return found
    return []


def has_keys(path):
    with subprocess.Popen(["zstdcat", path], stdout=subprocess.PIPE, text=True) as source:
        head = source.stdout.readline().strip()
        source.kill()
    return head == "ts,key,size,op,ttl"


class Replay:
    def __init__(self, server):
        self.peer = server.connect()
        # Of each key: the version that is stored (None: deleted), how many there were, size and end of the stored one.
        self.version, self.count, self.size, self.dead_at = {}, {}, {}, {}
        self.operations = self.hits = self.misses = self.sets = self.deletes = self.refused = self.verified_bytes = 0

    def batch(self, rows):
        gets = [(key, size, ttl) for key, size, op, ttl in rows if op in ("get", "gets")]
        self.operations += len(rows)
        missed = self.get(gets)
        changes = [(key, size, ttl, "set") for key, size, ttl in missed.values()]
        changes += [(key, size, ttl, op) for key, size, op, ttl in rows if op not in ("get", "gets")]
        self.change(changes)

    def get(self, gets):
        """Asks for all, verifies the hits. Returns the missed ones, by key."""
        if not gets:
            return {}
        asked_at = time.monotonic()
        self.peer.send(b"".join([b"get %s\r\n" % key for key, _, _ in gets]))
        missed = {}
        for row in gets:
            key = row[0]
            head = self.peer.line()
            if head == b"END\r\n":
                self.misses += 1
                missed[key] = row
                continue
            words = head.split()
            if len(words) != 4 or words[0] != b"VALUE" or words[1] != key:
                raise Wrong(f"get {key!r} was answered {head!r}")
            self.verify(key, self.peer.read(int(words[3]) + 2), int(words[2]), asked_at)
            if self.peer.line() != b"END\r\n":
                raise Wrong(f"no END after the value of {key!r}")
        return missed

    def verify(self, key, value, flags, asked_at):
        version = self.version.get(key)
        if version is None:
            raise Wrong(f"hit on {key!r}, which was never set or was deleted: {value[:80]!r}")
        if asked_at > self.dead_at[key]:
            raise Wrong(f"hit on {key!r}, which was over {asked_at - self.dead_at[key]:.1f} s ago")
        due = value_of(key, version, self.size[key])
        if value != due + b"\r\n":
            raise Wrong(f"{key!r} version {version} of {len(due)} bytes came as {len(value) - 2} bytes {value[:80]!r}")
        if flags != version & 0xffff:
            raise Wrong(f"{key!r} version {version} has the flags {flags}")
        self.hits += 1
        self.verified_bytes += len(due)

    def change(self, changes):
        if not changes:
            return
        out = []
        for key, size, ttl, op in changes:
            if op == "delete":
                out.append(b"delete %s\r\n" % key)
                continue
            version = self.new_version(key, min(size, VALUE_MAX))
            ttl = min(ttl, TTL_MAX)
            value = value_of(key, version, self.size[key])
            out.append(b"set %s %d %d %d\r\n%s\r\n" % (key, version & 0xffff, ttl, len(value), value))
        self.peer.send(b"".join(out))
        for key, _, ttl, op in changes:
            reply = self.peer.line()
            if op == "delete":
                if reply not in (b"DELETED\r\n", b"NOT_FOUND\r\n"):
                    raise Wrong(f"delete {key!r} was answered {reply!r}")
                self.version[key] = None
                self.deletes += 1
            elif reply == b"STORED\r\n":
                self.sets += 1
                self.version[key] = self.count[key]
                self.dead_at[key] = time.monotonic() + min(ttl, TTL_MAX) + CLOCK_SLACK_SECONDS if ttl else float("inf")
            elif reply.startswith(b"SERVER_ERROR"):
                self.refused += 1
                self.version[key] = None
            else:
                raise Wrong(f"set {key!r} was answered {reply!r}")

    def new_version(self, key, size):
        self.count[key] = self.count.get(key, 0) + 1
        self.size[key] = size
        return self.count[key]


def replay(rows, requests, memory):
    start = time.monotonic()
    with Server.ebbd(flags=["-m", str(memory), "-t", "2"], admin=True) as server:
        run = Replay(server)
        rows = itertools.islice(rows, requests)
        while batch := list(itertools.islice(rows, BATCH)):
            run.batch(batch)
        stats = run.peer.stats()
        run.peer.close()
    seconds = time.monotonic() - start
    print(f"  {run.operations} requests, {seconds:.1f} s: {run.hits} hits, all verified ({run.verified_bytes >> 20} MiB), "
          f"{run.misses} misses, {run.sets} sets, {run.deletes} deletes, {run.refused} refused, "
          f"{stats['evictions']} evictions", flush=True)
    if not run.hits or not run.misses:
        raise Wrong("a replay without hits or without misses proves nothing")
    return int(stats["evictions"])


def main():
    parse = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parse.add_argument("--trace", action="append", help="a file, or `generated`; those that are here by default")
    parse.add_argument("--requests", type=int, default=scaled(300000, 100000))
    parse.add_argument("--memory", type=int, default=8, help="MiB of the daemon")
    parse.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 32))
    options = parse.parse_args()
    evictions = 0
    for trace in options.trace or ["generated", *traces()[:2]]:
        print(f"replay: {os.path.basename(trace)}" + (f", seed {options.seed}" if trace == "generated" else ""), flush=True)
        rows = generated(random.Random(options.seed)) if trace == "generated" else traced(trace)
        try:
            evictions += replay(rows, options.requests, options.memory)
        except Wrong as wrong:
            print(f"WRONG: {wrong}")
            return 1
    if not evictions:
        print("nothing was evicted: the memory was too large for this to prove anything")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
