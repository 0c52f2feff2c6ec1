#!/usr/bin/python3
"""A peer that asks and never reads costs no memory, and keeps nobody else waiting."""
import socket
import unittest

from servers import REPLY_SECONDS_MAX, Server, scaled

VALUE_BYTES = 100 * 1000
SILENT_PEERS = 8
ASKED = 3000000      # gets each peer tries to send: more than the kernel keeps for a reader that is not there
GROWTH_BYTES_MAX = 64 << 20
UNENDED = 200        # values of which the end is never sent
LEEWAY_BYTES = 32 << 20
ADMIN_ASKED = 2000000
ADMIN_GROWTH_BYTES_MAX = 16 << 20


class Backpressure(unittest.TestCase):
    def test_peers_that_never_read_cost_no_memory(self):
        with Server.ebbd(admin=True, flags=["-m", "64", "-t", "2"]) as server:
            other = server.connect()
            self.assertEqual(other.set(b"big", b"x" * VALUE_BYTES), b"STORED")
            self.assertEqual(other.set(b"small", b"s"), b"STORED")
            before = server.rss_bytes()
            silent, taken = [], []
            for _ in range(SILENT_PEERS):
                peer = server.connect(receive_buffer=4096)
                peer.sock.settimeout(0.5)
                asked = b"get big\r\n" * ASKED
                sent = 0
                try:
                    while sent < len(asked):
                        sent += peer.sock.send(asked[sent:])
                except TimeoutError:
                    pass
                silent.append(peer)
                taken.append(sent)
            # Others are served as if nothing were, on both workers' threads.
            for _ in range(8):
                peer = server.connect()
                for _ in range(scaled(1000, 100)):
                    self.assertEqual(peer.get(b"small"), b"s")
                peer.close()
            growth = server.rss_bytes() - before
            metrics = server.metrics()
            print(f"backpressure: bytes taken of each peer {taken}, growth {growth >> 10} KiB", flush=True)
            self.assertLess(max(taken), len(asked))
            self.assertLess(growth, GROWTH_BYTES_MAX)
            self.assertGreaterEqual(metrics["ebb_reply_backlogs_total"], SILENT_PEERS)
            # What one of them asked for is still answered when it reads at last.
            silent[0].sock.settimeout(30)
            for _ in range(20):
                self.assertEqual(silent[0].line(), b"VALUE big 0 %d\r\n" % VALUE_BYTES)
                self.assertEqual(silent[0].read(VALUE_BYTES + 2), b"x" * VALUE_BYTES + b"\r\n")
                self.assertEqual(silent[0].line(), b"END\r\n")
            # A value that is on its way to a slow reader stays whole, whatever becomes of the item.
            self.assertEqual(other.set(b"big", b"y" * VALUE_BYTES), b"STORED")
            for number in range(100):
                other.set(b"push%d" % number, b"z" * 900000)
            for _ in range(20):
                self.assertRegex(silent[1].line(), rb"VALUE big 0 100000\r\n")
                value = silent[1].read(VALUE_BYTES + 2)[:-2]
                self.assertIn(value, (b"x" * VALUE_BYTES, b"y" * VALUE_BYTES))
                self.assertEqual(silent[1].line(), b"END\r\n")
            for peer in silent:
                peer.close()
            other.close()

    def test_values_that_never_end_keep_the_memory_limit(self):
        size, limit = 1000 * 1000, 64 << 20
        for line in (b"set k%d 0 0 1000000", b"append k%d 0 0 1000000", b"ms k%d 1000000 MP"):
            with Server.ebbd(flags=["-m", str(limit >> 20)]) as server:
                before = server.rss_bytes()
                peers = [server.connect() for _ in range(UNENDED)]
                for number, peer in enumerate(peers):
                    peer.send(line % number + b"\r\n" + b"x" * (size - 1))
                other = server.connect()
                while int(other.stats()["bytes_read"]) < UNENDED * (size - 1):
                    pass
                self.assertEqual(other.set(b"small", b"s"), b"STORED")
                self.assertEqual(other.get(b"small"), b"s")
                self.assertLess(server.peak_rss_bytes() - before, limit + LEEWAY_BYTES, line)
                for peer in peers + [other]:
                    peer.close()

    def test_an_admin_peer_that_asks_and_never_reads_costs_no_memory(self):
        with Server.ebbd(admin=True) as server, \
             socket.create_connection(("127.0.0.1", server.admin_port), REPLY_SECONDS_MAX) as peer:
            peer.settimeout(0.5)
            asked = b"GET /metrics HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n" * ADMIN_ASKED
            before, sent = server.peak_rss_bytes(), 0
            try:
                while sent < len(asked):
                    sent += peer.send(asked[sent:])
            except TimeoutError:
                pass
            self.assertLess(sent, len(asked))
            self.assertLess(server.peak_rss_bytes() - before, ADMIN_GROWTH_BYTES_MAX)

    def test_a_value_that_never_ends_holds_up_nobody(self):
        with Server.ebbd(flags=["-t", "1"]) as server:
            slow = server.connect()
            slow.send(b"set a 0 0 1000000\r\n" + b"x" * 1000)
            peer = server.connect()
            self.assertEqual(peer.set(b"b", b"1"), b"STORED")
            self.assertEqual(peer.get(b"b"), b"1")
            slow.send(b"x" * 999000 + b"\r\n")
            self.assertEqual(slow.line(), b"STORED\r\n")
            slow.close()
            peer.close()


if __name__ == "__main__":
    unittest.main(warnings="ignore")
