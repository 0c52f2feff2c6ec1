#!/usr/bin/python3
"""What the system refuses costs the connection that needed it, and the daemon goes on: epoll watches, which all
processes of a user share, and memory."""
import os
import resource
import unittest

from servers import Server, ServerError, scaled

SANITIZED = bool(os.environ.get("EBB_SANITIZED"))
VALUE_BYTES = 1000 * 1000
PEERS = 1500
BACKLOG_GETS = 20  # of that value: more than the kernel takes for a peer that does not read


class Watches(unittest.TestCase):
    def test_a_start_that_could_not_listen_is_refused_in_one_line(self):
        for admin in (False, True):
            with self.assertRaises(ServerError) as refused:
                Server.planted("unwatched", admin=admin)
            lines = [line for line in str(refused.exception).splitlines()[1:] if "Epoll ADD" not in line]
            self.assertRegex(str(refused.exception), r"ended with 71 at start")
            self.assertEqual(len([line for line in lines if line.strip()]), 1, lines)
            self.assertRegex(lines[0], r"epoll watches are used up; raise fs.epoll.max_user_watches")

    def test_one_connection_is_closed_and_counted_and_the_others_go_on(self):
        with Server.planted("", admin=True, flags=["-m", "64", "-t", "2"]) as server:
            old, slow = server.connect(), server.connect(receive_buffer=4096)
            self.assertEqual(old.set(b"big", b"x" * VALUE_BYTES), b"STORED")
            slow.send(b"version\r\n")  # it is watched
            slow.line()
            before = len(server.descriptors())
            server.plant("unwatched")
            for _ in range(3):
                self.assertTrue(server.connect().closed())
            slow.send(b"get big\r\n" * BACKLOG_GETS)  # to wait until it can be sent is one more watch
            while server.stderr().count("connection closed: cannot watch") == 0 or len(server.descriptors()) >= before:
                self.assertEqual(old.get(b"big"), b"x" * VALUE_BYTES)
            server.plant("")
            fresh = server.connect()
            self.assertEqual(fresh.get(b"big"), b"x" * VALUE_BYTES)
            self.assertEqual(server.metrics()["ebb_connections_dropped_total"], 4)
            self.assertEqual(int(fresh.stats()["curr_connections"]), 2)
            for peer in (old, slow, fresh):
                peer.close()


def as_left(server, total=None, more=0):
    """The process gets this much address space in all, or so much more than it has; returns what it had."""
    with open(f"/proc/{server.pid}/statm") as file:
        mapped = int(file.read().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    soft, hard = resource.prlimit(server.pid, resource.RLIMIT_AS)
    resource.prlimit(server.pid, resource.RLIMIT_AS, (total or mapped + more, hard))
    return soft, hard


def fill(peer, mib):
    """Stores so many MiB; nothing but STORED comes back."""
    count = mib * 1024
    for start in range(0, count, 1000):
        peer.send(b"".join(b"set k%d 0 0 1000\r\n%s\r\n" % (i, b"v" * 1000) for i in range(start, start + 1000)))
        answers = {peer.line() for _ in range(1000)}
        if answers != {b"STORED\r\n"}:
            raise ServerError(f"fill: {answers}")


@unittest.skipIf(SANITIZED, "the sanitizer wants address space of its own")
class Memory(unittest.TestCase):
    """ulimit -v, LimitAS=, vm.overcommit_memory=2: the cache has taken all that there is."""

    def serve(self, mib, total, connections):
        """Fills the cache as far as it goes; then each of so many connections must be served."""
        with Server.ebbd(admin=True, flags=["-m", str(mib)], environment={"MALLOC_ARENA_MAX": "1"}) as server:
            peer, crowd = server.connect(), []
            as_left(server, total=total)
            fill(peer, mib)
            self.assertGreater(int(peer.stats()["evictions"]), 0)
            for number in range(connections):
                crowd.append(server.connect())
                self.assertEqual(crowd[-1].set(b"c%d" % number, b"hello"), b"STORED", number)
                self.assertEqual(crowd[-1].get(b"c%d" % number), b"hello", number)
            stats = peer.stats()
            self.assertEqual(int(stats["curr_connections"]), connections + 1)
            self.assertGreater(int(stats["curr_items"]), 1000)
            self.assertEqual(server.metrics()["ebb_connections_dropped_total"], 0)
            for other in crowd + [peer]:
                other.close()

    def test_connections_are_served_beside_a_small_cache_that_took_all(self):
        self.serve(64, 61440 << 10, 100)

    def test_connections_are_served_beside_a_large_cache_that_took_all(self):
        self.serve(scaled(1024, 512), scaled(409600, 204800) << 10, 400)

    def test_whatever_a_peer_starts_costs_that_peer_at_the_most(self):
        """Half lines, answers that nobody reads, dumps, watchers, in a process that has no more to give."""
        line = b"get " + b"k" * 200 + b" " + b"unfinished " * 700
        with Server.ebbd(admin=True, flags=["-m", "256", "-t", "2", "-c", "4000"], environment={"MALLOC_ARENA_MAX": "1"}) as server:
            peer = server.connect()
            before = as_left(server, more=16 << 20)
            fill(peer, 32)
            crowd = []
            for number in range(PEERS):
                other = server.connect(receive_buffer=4096)
                other.sock.setblocking(False)
                try:
                    other.send((line, b"get " + b" ".join(b"k%d" % i for i in range(30000, 30060)) + b"\r\n",
                                b"stats conns\r\n", b"lru_crawler metadump all\r\n", b"watch fetchers\r\n",
                                b"stats sizes\r\n", b"append k1 0 0 9000\r\nx")[number % 7])
                except OSError:  # there was no room for it
                    pass
                crowd.append(other)
            for other in crowd:
                other.close()
            while int(peer.stats()["curr_connections"]) > 1:
                pass
            print(f"refused: {server.metrics()['ebb_connections_dropped_total']:.0f} of {PEERS} were dropped", flush=True)
            fill(peer, 8)
            resource.prlimit(server.pid, resource.RLIMIT_AS, before)
            fill(peer, 64)
            while server.metrics()["ebb_memory_reserve_used_bytes"] > 0:
                pass
            peer.close()


if __name__ == "__main__":
    unittest.main(warnings="ignore")
