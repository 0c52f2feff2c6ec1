#!/usr/bin/python3
"""Of the binary protocol what the differential does not compare: stat, -F, and quiet commands that are gathered."""
import struct
import unittest

from servers import Server

HEADER = struct.Struct(">BBHBBHIIQ")
GET, SET, FLUSH, NOOP, GETKQ, STAT, SETQ = 0x00, 0x01, 0x08, 0x0a, 0x0d, 0x10, 0x11


def frame(opcode, key=b"", extras=b"", value=b"", opaque=0):
    return HEADER.pack(0x80, opcode, len(key), len(extras), 0, 0, len(key + extras + value), opaque, 0) + extras + key + value


class Binary(unittest.TestCase):
    def setUp(self):
        self.sides = [Server.ebbd(), Server.memcached()]
        self.peers = [side.connect() for side in self.sides]
        for side in self.sides:
            self.addCleanup(side.kill)

    def tearDown(self):
        for peer, side in zip(self.peers, self.sides):
            peer.close()
            side.stop()

    @staticmethod
    def answer(peer):
        magic, opcode, key, extras, _, status, body, _, _ = HEADER.unpack(peer.read(24))
        text = peer.read(body)
        return status, text[extras:extras + key], text[extras + key:]

    def stat(self, peer, word=b""):
        peer.send(frame(STAT, word))
        out = []
        while True:
            status, name, value = self.answer(peer)
            if status:
                return status, value
            if not name:
                return out
            out.append((name, value))

    def test_stat_tells_what_the_text_command_tells(self):
        peer = self.peers[0]
        for word in ("", "settings", "items", "slabs", "sizes"):
            text = self.sides[0].connect()
            self.assertEqual([name.decode() for name, _ in self.stat(peer, word.encode())],
                             list(text.stats(*([word.encode()] if word else []))), word)
            text.close()

    def test_stat_has_every_general_name_of_memcached(self):
        ours, theirs = ({name for name, _ in self.stat(peer)} for peer in self.peers)
        self.assertGreater(len(theirs), 60)
        self.assertEqual(sorted(theirs - ours), [])

    def test_stat_detail_counts_binary_commands_as_memcached(self):
        said = []
        for peer in self.peers:
            self.assertEqual(self.stat(peer, b"detail on"), [])
            for key in (b"user:1", b"user:2", b"page:1"):
                peer.send(frame(SET, key, bytes(8), b"v") + frame(0, key) + frame(4, key) + frame(0, key))
                for _ in range(4):
                    self.answer(peer)
            (name, text), = self.stat(peer, b"detail dump")
            self.assertEqual(self.stat(peer, b"detail off"), [])
            said.append((name, sorted(text.split(b"\r\n"))))
        self.assertEqual(said[0], said[1])

    def test_words_that_binary_does_not_know_are_not_found(self):
        for word in (b"conns", b"cachedump 1 1", b"nonsense", b"detail maybe"):
            self.assertEqual(self.stat(self.peers[0], word), self.stat(self.peers[1], word), word)

    def test_an_unknown_opcode_passes_over_its_own_body(self):
        for extras, key, value in ((b"", b"", b""), (b"", b"", b"v" * 30), (bytes(8), b"", b"v"), (b"", b"key", b""), (bytes(4), b"key", b"v" * 5000)):
            for opcode in (0x1b, 0x1f, 0x25, 0x6c, 0xff):
                for peer, side in zip(self.peers, self.sides):
                    # memcached counts extras and key twice, and eats as much of the frames behind.
                    eaten = bytes(len(extras + key)) if side.oracle else b""
                    peer.send(frame(opcode, key, extras, value) + eaten + frame(SET, b"next", bytes(8), b"whole") + frame(GET, b"next"))
                    self.assertEqual([self.answer(peer) for _ in range(3)],
                                     [(0x81, b"", b"Unknown command"), (0, b"", b""), (0, b"", b"whole")], (side.name, opcode, extras, key))

    def test_flush_can_be_disabled(self):
        for kind in (Server.ebbd, Server.memcached):
            with kind(flags=["-F"]) as server:
                peer = server.connect()
                peer.send(frame(FLUSH))
                self.assertEqual(self.answer(peer), (0x20, b"", b"Auth failure."))
                peer.close()

    def test_answers_of_many_quiet_commands_leave_in_one_send(self):
        peer = self.peers[0]
        sets = b"".join(frame(SETQ, b"q%d" % i, bytes(8), b"v%d" % i) for i in range(100))
        gets = b"".join(frame(GETKQ, b"q%d" % i) for i in range(120))
        peer.send(sets + frame(NOOP))
        self.assertEqual(self.answer(peer), (0, b"", b""))
        peer.send(gets + frame(NOOP))
        pieces = [peer.sock.recv(1 << 16)]
        while not pieces[-1].endswith(bytes(8)) or len(b"".join(pieces)) < 100 * 30:
            pieces.append(peer.sock.recv(1 << 16))
        self.assertEqual(len(pieces), 1, [len(piece) for piece in pieces])


if __name__ == "__main__":
    unittest.main()
