#!/usr/bin/python3
"""Requests in datagrams: the same ones to ebbd and to memcached."""
import os
import socket
import struct
import subprocess
import time
import unittest

import differences
from servers import REPLY_SECONDS_MAX, Server, free_port

DATA_BYTES = 1392


def binary(opcode, key=b"", extras=b"", value=b""):
    return struct.pack(">BBHBBHIIQ", 0x80, opcode, len(key), len(extras), 0, 0, len(key + extras + value), 0xabcd, 0) + extras + key + value


class Side:
    def __init__(self, server_of, flags=()):
        self.port = free_port()
        self.server = server_of(flags=["-U", str(self.port), *flags])
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        self.sock.settimeout(REPLY_SECONDS_MAX)
        self.sock.connect(("127.0.0.1", self.port))

    def put(self, body):
        """As differences.py says; frames as they are."""
        return differences.for_oracle(body) if differences.met_by(self.server) and body[:1] != b"\x80" else body

    def send(self, body, id=0x1234, number=0, total=1):
        self.sock.send(struct.pack(">HHHH", id, number, total, 0) + body)

    def ask(self, body, id=0x1234):
        """The answer's datagrams, headers too."""
        self.send(self.put(body), id)
        parts = [self.sock.recv(65536)]
        while len(parts) < struct.unpack(">H", parts[0][4:6])[0]:
            parts.append(self.sock.recv(65536))
        return parts

    def close(self):
        self.sock.close()
        self.server.stop()


class Udp(unittest.TestCase):
    def setUp(self):
        self.ours = Side(Server.ebbd)
        self.addCleanup(self.ours.server.kill)
        self.theirs = Side(Server.memcached)
        self.addCleanup(self.theirs.server.kill)

    def tearDown(self):
        self.ours.close()
        self.theirs.close()

    def both(self, body, id=0x1234):
        ours, theirs = self.ours.ask(body, id), self.theirs.ask(body, id)
        self.assertEqual(ours, theirs, body[:60])
        return ours

    def test_text_commands_are_answered_as_by_memcached(self):
        for number, body in enumerate((
                b"set a 5 0 3\r\nabc\r\n", b"get a\r\n", b"get absent\r\n", b"incr a 1\r\n", b"set n 0 0 1\r\n5\r\n", b"incr n 7\r\n",
                b"delete a\r\n", b"touch n 100\r\n", b"nonsense\r\n", b"set a 0 0 x\r\n", b"mn\r\n", b"flush_all\r\n", b"get n\r\n",
                b"mg n v\r\n", b"verbosity 0\r\n", b"add q 0 0 2\r\nab\r\n")):
            self.both(body, id=number * 771)

    def test_binary_commands_are_answered_as_by_memcached(self):
        for body in (binary(1, b"b", struct.pack(">II", 7, 0), b"value"), binary(0x0a), binary(4, b"b"), binary(0, b"b"),
                     binary(0x0c, b"b"), binary(0x99)):
            self.both(body)

    def test_a_large_value_comes_in_many_datagrams(self):
        for length in (DATA_BYTES - 100, 1371, 1372, 1373, 1374, 1375, 10000, 100000, 500000):
            value = bytes(i % 251 for i in range(length))
            for side in (self.ours, self.theirs):
                self.assertEqual(side.server.connect().set(b"large", value), b"STORED")
            parts = self.both(b"get large\r\n")
            self.assertIn(value, b"".join(part[8:] for part in parts))

    def test_what_is_no_request_gets_no_answer(self):
        for side in (self.ours, self.theirs):
            side.sock.send(b"get a\r\n")
            side.sock.send(b"")
            side.sock.send(b"12345678")
            side.send(b"get a\r\n", number=0, total=2)
            side.send(b"get a")
        self.both(b"get b\r\n", id=99)  # the next one is answered, and nothing came before it

    def test_bad_datagrams_are_answered_as_by_a_memcached_that_is_fresh(self):
        """memcached keeps the state of one datagram for the next, so each of these is for a memcached of its own."""
        head = struct.pack(">HHHH", 0x1234, 0, 1, 0)
        for datagram in (struct.pack(">HHHH", 0x1234, 1, 1, 0) + b"mn\r\n", struct.pack(">HHHH", 0x1234, 0, 1, 7) + b"mn\r\n",
                         struct.pack(">HHHH", 0x1234, 0, 0, 0) + b"mn\r\n", struct.pack(">HHHH", 0x1234, 0, 2, 0) + b"mn\r\n",
                         struct.pack(">HHHH", 0x1234, 0, 257, 0) + b"mn\r\n", head, head + b"mn", head + b"\r\n", head + b"\n", head + b"\0\r\n",
                         head + b"x" * 3000, head + b"GET / HTTP/1.0\r\n",
                         head + b"shutdown\r\n", head + b"set a 0 0 1 noreply\r\na\r\n", head + b"\xff\xfe\r\n", head + bytes(range(0x81, 0xc0)),
                         head + b"get " + b"k" * 251 + b"\r\n", head + b"ms a x\r\n", head + b"mg a O" + b"1" * 40 + b"\r\n",
                         head + binary(0x0a)[:20], head + binary(0x01, b"a"), head + binary(0x99), head + b"\x81" + binary(0x0a)[1:], head + binary(0x20)):
            # memcached's other thread answers when the first waits for more; then the order is open.
            sides = [Side(Server.ebbd, ["-t", "1"]), Side(Server.memcached, ["-t", "2"])]
            said = [[], []]
            for side in sides:
                self.addCleanup(side.server.kill)
                side.sock.settimeout(0.2)
                side.sock.send(datagram[:8] + side.put(datagram[8:]))
            until = time.monotonic() + REPLY_SECONDS_MAX
            followed = [False, False]
            while (said[0] != said[1] or not all(followed)) and time.monotonic() < until:
                for number, side in enumerate(sides):
                    try:
                        side.send(b"mn\r\n", id=1)
                        answer = side.sock.recv(65536)
                    except TimeoutError:
                        continue
                    followed[number] |= answer[:2] == b"\0\1"
                    said[number] += [differences.alike(answer, side.server)] if answer[:2] == b"\x12\x34" else []
            for side in sides:
                side.close()
            self.assertEqual(said[0], said[1], datagram[:60])

    def test_the_protocol_of_a_datagram_is_told_by_its_first_byte_whatever_B_says(self):
        for protocol in ("ascii", "binary"):
            for path in (self.ours.server.path, self.theirs.server.path):
                port = free_port()
                daemon = subprocess.Popen([path, "-u", "root", "-p", "0", "-l", "127.0.0.1", "-U", str(port), "-B", protocol], stderr=subprocess.DEVNULL)
                self.addCleanup(daemon.wait)
                self.addCleanup(daemon.kill)
                for asked, answer in ((b"mn\r\n", b"MN\r\n"), (binary(0x0a), b"\x81\x0a")):
                    self.assertTrue(self.first_answer(port, asked).startswith(answer), (path, protocol, asked))

    @staticmethod
    def first_answer(port, body):
        """Asks until a daemon that is just starting answers."""
        until = time.monotonic() + REPLY_SECONDS_MAX
        while time.monotonic() < until:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
                sock.settimeout(0.2)
                sock.connect(("127.0.0.1", port))
                try:
                    sock.send(struct.pack(">HHHH", 1, 0, 1, 0) + body)
                    return sock.recv(65536)[8:]
                except (TimeoutError, ConnectionRefusedError):
                    time.sleep(0.01)
        return b""

    def test_lines_of_one_datagram_are_answered_together(self):
        parts = self.ours.ask(b"set a 0 0 1\r\n1\r\nset b 0 0 1\r\n2\r\nget a b\r\n")
        self.assertEqual(parts, [struct.pack(">HHHH", 0x1234, 0, 1, 0)
                                 + b"STORED\r\nSTORED\r\nVALUE a 0 1\r\n1\r\nVALUE b 0 1\r\n2\r\nEND\r\n"])

    def test_a_block_that_is_not_whole_is_dropped(self):
        self.ours.send(b"set a 0 0 100\r\nabc")
        self.assertEqual(self.ours.ask(b"get a\r\n")[0][8:], b"END\r\n")

    def test_answers_of_many_turns_are_refused(self):
        self.assertEqual(self.ours.ask(b"watch fetchers\r\n")[0][8:], b"CLIENT_ERROR not over UDP\r\n")

    def test_sockets_may_open_before_their_thread_has_begun(self):
        processors = os.sched_getaffinity(0)
        self.addCleanup(os.sched_setaffinity, 0, processors)
        os.sched_setaffinity(0, {min(processors)})  # the thread waits for the processor that opens sockets
        for _ in range(8):
            side = Side(Server.ebbd, ["-t", "1"])
            self.addCleanup(side.server.kill)
            self.assertEqual(side.ask(b"mn\r\n")[0][8:], b"MN\r\n")
            side.close()

    def test_without_the_flag_nobody_listens(self):
        with Server.ebbd() as server, socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.connect(("127.0.0.1", server.port))
            sock.settimeout(REPLY_SECONDS_MAX)
            sock.send(b"\0\0\0\0\0\1\0\0get a\r\n")
            with self.assertRaises(ConnectionRefusedError):
                sock.recv(1)


if __name__ == "__main__":
    unittest.main()
