#!/usr/bin/python3
"""Many clients at once on the same few keys, in a memory so small that items are evicted all the time.

Each value says which key, writer and version it is and is followed by bytes that all of it determines. So whatever a
reader gets can be checked by itself: it is one value that somebody set for this key, whole.
"""
import multiprocessing
import os
import random
import re
import time
import unittest
import zlib

from servers import Server, scaled

CLIENTS = 4
MEMORY_MIB = int(os.environ.get("EBB_TEST_MIB", "8"))
KEYS = 375 * MEMORY_MIB  # several times what fits
BATCHES = 1500
BATCH = 30
SIZE_MAX = 120000
NOISE = random.Random(11).randbytes(SIZE_MAX + 65536)
HEAD = re.compile(rb"(k\d+)/(\d+)/(\d+)/(\d+)/")


def value_of(key, writer, version, size):
    head = b"%s/%d/%d/%d/" % (key, writer, version, size)
    at = zlib.crc32(head) & 65535
    return head + NOISE[at:at + size]


def size_by(rng):
    """Mostly small and of few sizes, so that values are overwritten in place; now and then around the bounds."""
    return rng.choice((10, 10, 10, 50, 50, 1000, 4000, rng.randrange(16300, 16500), rng.randrange(SIZE_MAX)))


def check(key, value, flags):
    match = HEAD.match(value)
    if not match or match.group(1) != key:
        raise AssertionError(f"{key!r} got {value[:100]!r}")
    writer, version, size = map(int, match.groups()[1:])
    if value != value_of(key, writer, version, size) or flags != version & 0xffff:
        raise AssertionError(f"{key!r} got {len(value)} bytes, flags {flags}, that are no whole version: {value[:100]!r}")


def client(server, writer, seed, batches, results):
    rng = random.Random(seed * 1000 + writer)
    peer = server.connect()
    version = hits = 0
    try:
        for _ in range(batches):
            out, keys = [], []
            for _ in range(BATCH):
                key = b"k%d" % int(rng.random() ** 3 * KEYS)
                kind = rng.random()
                if kind < 0.6:
                    out.append(b"get %s\r\n" % key)
                    keys.append(key)
                elif kind < 0.95:
                    version += 1
                    value = value_of(key, writer, version, size_by(rng))
                    out.append(b"set %s %d 0 %d noreply\r\n%s\r\n" % (key, version & 0xffff, len(value), value))
                elif kind < 0.98:
                    out.append(b"touch %s 100 noreply\r\n" % key)
                else:
                    out.append(b"delete %s noreply\r\n" % key)
            peer.send(b"".join(out))
            for key in keys:
                head = peer.line()
                if head == b"END\r\n":
                    continue
                words = head.split()
                if words[:2] != [b"VALUE", key]:
                    raise AssertionError(f"get {key!r} was answered {head!r}")
                check(key, peer.read(int(words[3]) + 2)[:-2], int(words[2]))
                if peer.line() != b"END\r\n":
                    raise AssertionError(f"no END after {key!r}")
                hits += 1
        results.put((writer, hits, None))
    except BaseException as error:
        results.put((writer, hits, f"{type(error).__name__}: {error}"))
    finally:
        peer.close()


def counter(server, _, count, results):
    peer = server.connect()
    for _ in range(count):
        peer.ask(b"incr n 1")
    peer.close()
    results.put(0)


def cas_counter(server, _, count, results):
    """Counts by reading and writing back, again when somebody was faster."""
    peer, lost = server.connect(), 0
    for _ in range(count):
        while True:
            peer.send(b"gets n\r\n")
            words = peer.line().split()
            number = int(peer.read(int(words[3]) + 2))
            peer.line()
            text = b"%d" % (number + 1)
            if peer.ask(b"cas n 0 0 %d %s\r\n%s" % (len(text), words[4], text)) == b"STORED":
                break
            lost += 1
    peer.close()
    results.put(lost)


class Concurrency(unittest.TestCase):
    def together(self, target, server, *arguments):
        fork = multiprocessing.get_context("fork")
        results = fork.SimpleQueue()
        workers = [fork.Process(target=target, args=(server, number, *arguments, results)) for number in range(CLIENTS)]
        for worker in workers:
            worker.start()
        out = [results.get() for _ in workers]
        for worker in workers:
            worker.join()
        return out

    def test_every_value_read_is_one_that_was_set_for_its_key(self):
        seed = int(os.environ.get("EBB_SEED", random.SystemRandom().randrange(1 << 32)))
        print(f"concurrency: seed {seed}", flush=True)
        with Server.ebbd(flags=["-m", str(MEMORY_MIB), "-t", "4"], admin=True) as server:
            start = time.monotonic()
            results = self.together(client, server, seed, scaled(BATCHES, 800))
            for writer, hits, error in results:
                self.assertIsNone(error, f"client {writer}")
                self.assertGreater(hits, 0)
            metrics = server.metrics()
            print(f"  {sum(hits for _, hits, _ in results)} hits verified, {metrics['memcached_items_evicted_total']:.0f} "
                  f"evictions, {time.monotonic() - start:.1f} s", flush=True)
            self.assertGreater(metrics["memcached_items_evicted_total"], 0)

    def test_no_increment_is_lost(self):
        count = scaled(3000, 300)
        with Server.ebbd() as server:
            peer = server.connect()
            peer.set(b"n", b"0")
            self.together(counter, server, count)
            self.assertEqual(int(peer.get(b"n")), CLIENTS * count)
            peer.close()

    def test_no_cas_overwrites_what_it_has_not_seen(self):
        count = scaled(2000, 200)
        with Server.ebbd() as server:
            peer = server.connect()
            peer.set(b"n", b"0")
            self.together(cas_counter, server, count)
            self.assertEqual(int(peer.get(b"n")), CLIENTS * count)
            peer.close()


if __name__ == "__main__":
    unittest.main(warnings="ignore")
