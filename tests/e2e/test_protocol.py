#!/usr/bin/python3
"""What memcached's protocol.txt promises, sentence by sentence: each conversation with ebbd and with memcached.

A case is a promise and what a client sends, in steps; a step's answer is all that comes until the answer to `mn`, or until
the connection is closed. {cas} is the number that was shown last, {older} one less. Answers must be equal byte for byte
when numbers of versions are told by the order in which they appeared. What differs on purpose is put to memcached as
differences.py says.
"""
import re
import signal
import struct
import unittest

import differences
from servers import STOP_SECONDS_MAX, Server

CAS = re.compile(rb" c\d+(?=[ \r])|(?<=VALUE )[^ \r\n]+ \d+ \d+ \d+(?=\r\n)")
LONG = 2048
K250, K251 = b"k" * 250, b"k" * 251


def store(key=b"a", value=b"v", words=b"0 0"):
    return b"set %s %s %d\r\n%s" % (key, words, len(value), value)


# (promise, steps)
CASES = [
    # -- Keys, lines
    ("a key is at most 250 bytes", [store(K250), b"get " + K250, store(K251), b"get " + K251, b"gets " + K251, b"delete " + K251, b"incr " + K251 + b" 1",
                                    b"touch " + K251 + b" 0", b"gat 0 " + K251, b"mg " + K251, b"md " + K251, b"ma " + K251, b"me " + K251,
                                    b"ms " + K251 + b" 1\r\nv", b"add " + K251 + b" 0 0 1 noreply\r\nv", b"cas " + K251 + b" 0 0 1 1\r\nv",
                                    b"get a " + K251, b"get " + K250 + b" " + K251]),
    ("a key has no control characters or white space", [store(b"a\x01b"), b"get a\x01b", store(b"a\x7f"), b"get a\x7f", store(b"a\tb"), b"get a\tb", store(b"a\x00b"),
                                                        b"get a\x00b", store("schl\u00fcssel".encode()), "get schl\u00fcssel".encode(), b"mg a\x01b v", b"ms a\x02 1\r\nv"]),
    ("command names are lower case", [b"GET a", b"Get a", b"SET a 0 0 1\r\nv", b"MG a", b"VERSION", b"QUIT", b"Mn"]),
    ("words are delimited by white space", [store(), b"get  a", b" get a", b"get a ", b"get   a   a  ", b"set  b  0  0  1 \r\nv", b"incr  a  1 ", b"delete  a ",
                                            b"get\ta", b"mg  a  v", b"mg a  v ", b"ms  a  1 \r\nv", b"touch  a  0 ", b"gat  0  a ", b"verbosity  0 "]),
    ("a command that does not exist is an ERROR", [b"", b" ", b"  ", b"foo", b"foo bar", b"getx a", b"get", b"gets", b"gat", b"gats", b"gat 0", b"set", b"set a", b"set a 0",
                                                   b"set a 0 0", b"add", b"cas a 0 0", b"cas a 0 0 1\r\nv", b"delete", b"incr", b"incr a", b"decr a", b"touch", b"touch a", b"mg", b"ms",
                                                   b"ms a", b"md", b"ma", b"me", b"mx a", b"m", b"flush", b"stat", b"slabs", b"lru", b"lru_crawler", b"verbosity",
                                                   b"cache_memlimit", b"shutdown x", b"watch x", b"misbehave", b"extstore", b"auth", b"bget", b"bget a"]),
    ("a line that is too long closes the connection", [b"x" * (LONG - 1)]),
    ("a line that is too long closes the connection (2)", [b"x" * LONG]),
    ("a line that is too long closes the connection (3)", [b"set " + b"k" * LONG + b" 0 0 1\r\nv"]),
    ("a line that is too long closes the connection (4)", [b"x" * 20000]),
    ("a get may be longer", [store(), b"get " + b"a " * 3000, b"gets " + b"b " * 10000, b"get " + b"a " * 30000]),
    ("a get may be longer, a gat not", [b"gat 0 " + b"a " * 3000]),
    ("a get may be longer, an mg not", [b"mg " + b"a " * 3000]),
    ("the key of a long get may be too long", [b"get " + b"k" * 3000]),
    # -- Expiration times
    ("negative: immediately expired", [store(words=b"0 -1"), b"get a", b"add a 0 0 1\r\nx", b"touch a -1", b"get a", b"ms a 1 T-1\r\nx", b"mg a v"]),
    ("more than 30 days is a moment of the past", [store(words=b"0 2592001"), b"get a", store(words=b"0 2592000"), b"get a", store(words=b"0 4294967295"), b"get a",
                                                   store(words=b"0 4294967296"), b"get a", store(words=b"0 -2147483649"), b"get a", store(words=b"0 2147483648"), b"get a",
                                                   b"touch a 99999999999", b"gat 4294967296 a", b"ms a 1 T4294967296\r\nx", b"mg a v t", b"ms a 1 T2147483648\r\nx"]),
    # -- Storage commands
    ("flags are 32 bits", [store(words=b"4294967295 0"), b"get a", store(words=b"4294967296 0"), b"get a", store(words=b"-1 0"), b"get a", store(words=b"18446744073709551616 0"),
                           b"ms a 1 F4294967295\r\nv", b"mg a f", b"ms a 1 F4294967296\r\nv", b"mg a f", b"ms a 1 F-1\r\nv", b"mg a f"]),
    ("bytes may be zero", [store(value=b""), b"get a", b"append a 0 0 0\r\n", b"ms a 0\r\n", b"mg a s v", b"incr a 1"]),
    ("bytes is a number", [b"set a 0 0 -1\r\nv", b"set a 0 0 x\r\nv", b"set a 0 0 1x\r\nv", b"set a 0 0 4294967296\r\nv", b"set a 0 0 99999999999999999999\r\nv",
                           b"ms a -1\r\nv", b"ms a x\r\nv", b"ms a 1x\r\nv", b"ms a 4294967297\r\nv", b"ms a S1\r\nv", b"ms a\r\nv"]),
    ("the block ends with CRLF", [b"set a 0 0 1\r\nvv", b"set a 0 0 3\r\nv\r\nget a", b"get a", b"get a", b"ms a 1\r\nvv", b"ms a 3\r\nv\r\nget a", b"get a", b"get a"]),
    ("what is too large is refused and passed over", [store(), store(value=b"get a\r\n" * 200000), b"get a", b"ms a 2000000\r\n" + b"mn\r\n" * 500000, b"append a 0 0 1048576\r\n" + b"x" * 1048576,
                                                     b"mg a s"]),
    ("add, replace, append, prepend and their conditions", [b"replace a 0 0 1\r\nv", b"append a 0 0 1\r\nv", b"prepend a 0 0 1\r\nv", b"add a 7 0 1\r\nv", b"add a 0 0 1\r\nw", b"append a 9 9 2\r\nxy",
                                                             b"prepend a 9 9 2\r\nxy", b"get a", b"replace a 1 0 1\r\nr", b"get a"]),
    ("cas stores only over the version that was seen", [b"cas a 0 0 1 1\r\nv", store(), b"gets a", b"cas a 0 0 1 {older}\r\nw", b"cas a 0 0 1 {cas}\r\nx", b"gets a", b"cas a 0 0 1 0\r\ny",
                                                        b"cas a 0 0 1 -1\r\ny", b"cas a 0 0 1 x\r\ny", b"cas a 0 0 1 18446744073709551616\r\ny", b"cas a 0 0 1 {cas} noreply\r\nz", b"get a"]),
    ("noreply: nothing is said", [b"set a 0 0 1 noreply\r\n1", b"add a 0 0 1 noreply\r\n2", b"replace a 0 0 1 noreply\r\n3", b"append a 0 0 1 noreply\r\n4", b"prepend a 0 0 1 noreply\r\n5",
                                  b"incr a 1 noreply", b"decr a 1 noreply", b"touch a 0 noreply", b"get a", b"incr none 1 noreply", b"touch none 0 noreply", b"delete none noreply", b"delete a noreply",
                                  b"cas a 0 0 1 1 noreply\r\n1", b"flush_all noreply", b"flush_all 0 noreply", b"verbosity 0 noreply", b"cache_memlimit 64 noreply", b"get noreply", b"gat 0 noreply",
                                  b"version noreply", b"delete a 0 noreply", b"set x 0 0 1 noreplyx\r\n1", b"set x 0 0 1 NOREPLY\r\n1", b"get x"]),
    ("noreply: errors of a bad line may be said", [b"set a 0 0 x noreply\r\nv", b"set a 0 0 -1 noreply\r\nv", b"set a x 0 1 noreply\r\nv", b"incr a x noreply", b"touch a x noreply", b"delete a 1 noreply",
                                                   b"set a 0 0 2000000 noreply\r\n" + b"v" * 2000000, b"set a 0 0 1 noreply\r\nvv", b"set noreply 0 0 1\r\nv", b"incr noreply 1", b"verbosity noreply"]),
    # -- Retrieval, deletion, counting, touch
    ("several keys, some missing, some twice", [store(), store(b"b", b"ww", b"3 0"), b"get a none b a", b"gat 0 none b a", b"get none none2", b"bget a b"]),
    ("gets shows the cas number", [store(), b"gets a a", store(b"b"), b"gets a b", b"gats 0 a b"]),
    ("delete", [store(), b"delete a", b"delete a", store(), b"delete a 0", store(), b"delete a 1", b"delete a -1", b"delete a x", b"delete a 0 0", b"delete a b c d", b"get a"]),
    ("incr and decr", [store(value=b"5"), b"incr a 1", b"decr a 10", b"incr a 18446744073709551615", b"incr a 1", b"decr a 1", b"incr a -1", b"incr a x", b"incr a 18446744073709551616",
                       b"incr a", b"incr a 1 2", b"decr none 1", store(value=b"abc"), b"incr a 1", store(value=b"-1"), b"incr a 1", store(value=b"1 2"), b"incr a 1", store(value=b"12345678901234567890123"), b"incr a 1",
                       store(value=b"007"), b"incr a 1", b"get a"]),
    ("a number keeps its width", [store(value=b"100"), b"decr a 1"]),
    ("incr of a long number", [store(value=b"99"), b"incr a 1", b"incr a 999999900", store(value=b"18446744073709551615"), b"incr a 2"]),
    ("touch", [store(), b"touch a 100", b"mg a t", b"touch a 0", b"mg a t", b"touch none 0", b"touch a x", b"touch a 1x", b"touch a 0 0", b"touch a"]),
    ("gat takes one time for all keys", [store(), store(b"b"), b"gat 100 a b none", b"mg a t", b"mg b t", b"gats 0 a", b"mg a t", b"gat x a", b"gat a", b"gat -1 a", b"get a b", b"gats"]),
    # -- Meta
    ("me", [b"me none", b"me", b"me none x", b"me bm9uZQ== b", b"me a b c"]),
    ("mg flags", [store(b"a", b"value", b"5 0"), b"mg a", b"mg a v", b"mg a f", b"mg a s", b"mg a t", b"mg a k", b"mg a c", b"mg a h", b"mg a l", b"mg a h", b"mg a s v t f k Oabc q", b"mg a q",
                  b"mg a v q", b"mg none", b"mg none v", b"mg none q", b"mg none k O1", b"mg none k O1 q", b"mg a u", b"mg a P L", b"mg a P1 Labc v", b"mg a v v", b"mg a z", b"mg a E1", b"mg a S1", b"mg a x"]),
    ("mg: h and l tell of before", [store(), b"mg a h l", b"mg a h l", store(), b"mg a u h", b"mg a h", b"mg a h"]),
    ("mg: N vivifies, W and Z", [b"mg a N30 v t", b"mg a N30 v t", b"mg a v", b"mg a s k O1", b"ms a 1\r\nv", b"mg a N30 v", b"mg b N0 t v", b"mg c N-1 v", b"mg c v", b"mg d N", b"mg d Nx", b"mg d N v",
                                 b"mg e N30 q", b"mg e N30 q", b"mg f N30 k c s q"]),
    ("mg: R wins when less is left", [store(words=b"0 100"), b"mg a R30 v", b"mg a R200 v", b"mg a R200 v", b"mg a R200", store(), b"mg a R200", b"mg a R", b"mg a Rx", b"mg a R-1 v"]),
    ("mg: T updates", [store(), b"mg a T100 t", b"mg a t", b"mg a T0 t v", b"mg a T", b"mg a Tx", b"mg none T10", b"mg a T-1 v", b"mg a"]),
    ("stale: X, W once, then Z", [store(), b"md a I T30", b"mg a s v", b"mg a s v", b"mg a R100 v", b"get a", b"ms a 1\r\nw", b"mg a v", b"md a I", b"mg a t v", b"md a I", b"mg a v", b"md a", b"mg a v"]),
    ("stale: md I gives a new cas", [store(), b"mg a c", b"md a I", b"ms a 1 C{cas}\r\nw", b"ms a 1 C{cas} I\r\nw", b"mg a v c", b"mg a v c"]),
    ("base64 keys", [b"ms Zm9v 1 b\r\nv", b"get foo", b"mg foo k v", b"mg Zm9v b k v", b"mg Zm9v k v", b"mg Zm9v= b k", b"mg !!!! b", b"mg = b", b"mg " + b"QUFB" * 62 + b" b k", b"ms " + b"QUFB" * 62 + b" 1 b\r\nv",
                     b"mg " + b"QUFB" * 62 + b" b k v", b"ms " + b"QUFB" * 63 + b" 1 b\r\nv", b"md Zm9v b k", b"md Zm9v b k", b"ma Zm9v b N0 J5 v k"]),
    ("opaque up to 32 bytes", [store(), b"mg a O" + b"o" * 31, b"mg a O" + b"o" * 32, b"mg a O" + b"o" * 33, b"mg a O" + b"o" * 100, b"ms a 1 O" + b"o" * 31 + b"\r\nv", b"ms a 1 O" + b"o" * 32 + b"\r\nv",
                               b"md none O" + b"o" * 32, b"ma none O" + b"o" * 32, b"mg a O", b"mg a Oa Ob", b"mg none O" + b"o" * 31]),
    ("ms flags", [b"ms a 1 k O1 c\r\nv", b"mg a c", b"ms a 1 T100 F7\r\nv", b"mg a t f", b"ms a 1 q\r\nv", b"ms a 1 b\r\nv", b"ms a 1 v\r\nv", b"ms a 1 z\r\nv", b"ms a 1 T\r\nv", b"ms a 1 Tx\r\nv",
                  b"ms a 1 Fx\r\nv", b"ms a 1 Cx\r\nv", b"ms a 1 C\r\nv", b"ms a 1 S1\r\nv", b"ms a 1 E5\r\nv", b"ms a 1 t\r\nv", b"ms a 1 O1 O2\r\nv"]),
    ("ms modes", [b"ms a 1 MR\r\nv", b"ms a 1 MA\r\nv", b"ms a 1 MP\r\nv", b"ms a 1 ME\r\nv", b"ms a 1 ME\r\nw", b"ms a 1 Me\r\nw", b"ms a 1 MA\r\na", b"ms a 1 Ma\r\nb", b"ms a 1 MP\r\np", b"ms a 1 Mp\r\nq", b"mg a v",
                  b"ms a 1 MR\r\nr", b"ms a 1 Mr\r\ns", b"ms a 1 MS\r\nt", b"ms a 1 Ms\r\nu", b"ms a 1 MX\r\nv", b"ms a 1 M\r\nv", b"ms a 1 MSET\r\nv", b"mg a v", b"ms a 1 ME q\r\nz", b"ms none 1 MR q\r\nz", b"ms none 1 MR k O1 q\r\nz"]),
    ("ms with cas", [b"ms a 1 C1\r\nv", b"ms a 1\r\nv", b"mg a c", b"ms a 1 C{older}\r\nw", b"ms a 1 C{cas} c k\r\nw", b"mg a c v", b"ms a 1 C{older} I c\r\nx", b"mg a v", b"mg a v", b"ms a 1 MA C{cas}\r\n+", b"mg a v c",
                     b"ms a 1 MA C{cas}\r\n+", b"mg a v", b"ms a 1 C99999999999999999999\r\nv", b"ms a 1 C-1\r\nv"]),
    ("md", [b"md a", b"md a q", b"md a k O1 q", store(), b"md a k O1", store(), b"md a q", store(), b"mg a c", b"md a C{older}", b"md a C{older} q", b"md a C{cas}", store(), b"md a T30", b"mg a", store(), b"md a I T30 k",
            b"mg a t", b"md a C", b"md a Cx", b"md a z", b"md a v", b"md a Tx I"]),
    ("ma", [b"ma a", b"ma a q", b"ma a N0", b"ma a v", b"ma a v D5", b"ma a v MD", b"ma a v M-", b"ma a v MI D10", b"ma a v M+", b"ma a v Mi", b"ma a v Md D100", b"ma a MX", b"ma a M", b"ma a D", b"ma a Dx", b"ma a D-1",
            b"ma a D18446744073709551616", b"ma a T100 t v", b"ma a t", b"ma a k O1 c", b"ma a q", b"ma a v q", b"ma b N30 J13 v t", b"ma b N30 J13 v", b"ma c N0 Jx", b"ma c Nx", b"ma c J5", b"mg a c", b"ma a C{older}",
            b"ma a C{cas} c v", b"ma a C{older} q", store(value=b"abc"), b"ma a", b"ma a v q", b"ma a z", b"ma d N0", b"ma d N0 J7 q v", b"ma e N0 c k v"]),
    ("mn takes nothing", [b"mn", b"mn x", b"mn  ", b"mnx"]),
]

# Of memcached as it is by default: without its lists and movers some of these are refused.
CONTROL = [
    ("slabs reassign and automove", [b"slabs", b"slabs reassign", b"slabs reassign 1", b"slabs reassign 1 1", b"slabs reassign x 1", b"slabs reassign 1 1 1", b"slabs automove", b"slabs automove 0", b"slabs automove 1",
                                     b"slabs automove 2", b"slabs automove 3", b"slabs automove x", b"slabs automove ratio 0.5", b"slabs automove ratio", b"slabs automove ratio x", b"slabs foo", b"slabs foo 1 2", b"slabs automove 0"]),
    ("lru tune, mode, temp_ttl", [b"lru", b"lru tune", b"lru tune 10 25 0.1 2.0", b"lru tune 10 25", b"lru tune 90 90 0.1 2.0", b"lru tune x 25 0.1 2.0", b"lru tune 10 25 -1 2.0", b"lru tune 0 0 0 0", b"lru mode", b"lru mode flat",
                                  b"lru mode segmented", b"lru mode x", b"lru temp_ttl", b"lru temp_ttl 0", b"lru temp_ttl 100", b"lru temp_ttl -1", b"lru temp_ttl x", b"lru foo", b"lru mode flat x"]),
    # Not disable and enable: whether memcached's crawler is still at work then is chance.
    ("lru_crawler", [b"lru_crawler", b"lru_crawler sleep", b"lru_crawler sleep 100", b"lru_crawler sleep 1000001", b"lru_crawler sleep x", b"lru_crawler sleep -1",
                     b"lru_crawler tocrawl", b"lru_crawler tocrawl 0", b"lru_crawler tocrawl x", b"lru_crawler tocrawl -1", b"lru_crawler crawl", b"lru_crawler crawl x", b"lru_crawler crawl 0", b"lru_crawler crawl 999", b"lru_crawler metadump",
                     b"lru_crawler foo", b"lru_crawler sleep 1 2"]),
    ("watch", [b"watch foo"]),
    # -- Others
    ("flush_all", [store(), b"flush_all", b"get a", store(), b"flush_all 0", b"get a", store(), b"flush_all 1000", b"get a", b"flush_all -1", b"get a", b"flush_all x", b"flush_all 1x", b"flush_all 0 0", b"flush_all noreply x",
                   b"flush_all 99999999999", b"flush_all 4294967296", b"flush_all 18446744073709551616", b"flush_all x noreply"]),
    ("cache_memlimit", [b"cache_memlimit", b"cache_memlimit 64", b"cache_memlimit 7", b"cache_memlimit 0", b"cache_memlimit x", b"cache_memlimit -1", b"cache_memlimit 64 x", b"cache_memlimit 128 noreply", b"cache_memlimit 128x",
                        b"cache_memlimit 2048", b"cache_memlimit 8", b"cache_memlimit 512", b"cache_memlimit 64"]),
    ("shutdown is off", [b"shutdown", b"shutdown graceful", b"shutdown now", b"shutdown noreply", b"shutdown graceful x"]),
    ("verbosity", [b"verbosity 0", b"verbosity 1", b"verbosity", b"verbosity x", b"verbosity -1", b"verbosity 1 2", b"verbosity 99999999999", b"verbosity 1x", b"verbosity 0"]),
    ("version and misbehave", [b"version x", b"misbehave", b"misbehave x"]),
]

for NAME, FLAGS in ((b"k", 0), (b"k", 5), (b"k" * 100, 0), (b"k" * 100, 7)):  # 512 KiB with all that belongs to the item
    FITS = 512 * 1024 - 56 - (4 if FLAGS else 0) - len(NAME) - 1 - 2
    CASES.append((f"the longest value with a number, a key of {len(NAME)} bytes, flags {FLAGS}",
                  [b"set %s %d 0 %d\r\n5 %s\r\nincr %s 1" % (NAME, FLAGS, size, b"x" * (size - 2), NAME) for size in (FITS, FITS + 1)]))


class Protocol(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        # Without chunks and lists in motion, so that numbers and answers do not depend on them.
        cls.ours = Server.ebbd(flags=["-m", "64"])
        cls.theirs = Server.memcached(flags=["-m", "64", "-o", "no_modern,slab_chunk_max=524288"])
        cls.default = Server.memcached(flags=["-m", "64"])

    @classmethod
    def tearDownClass(cls):
        for server in (cls.ours, cls.theirs, cls.default):
            server.stop()

    def answer(self, server, peer, step, seen):
        for old, new in ((b"{cas}", seen[-1] if seen else 1), (b"{older}", seen[-1] - 1 if seen else 1)):
            step = step.replace(old, b"%d" % new)
        said, asked = b"", step + b"\r\nmn\r\n"
        try:
            peer.send(differences.for_oracle(asked) if differences.met_by(server) else asked)
            while not said.endswith(b"MN\r\n"):
                said += peer.line()
        except (OSError, AssertionError):
            said += b"<closed>"
        said = differences.alike(said, server)
        return CAS.sub(lambda found: self.in_order(found.group(), seen), re.sub(rb"VERSION [^\r]*", b"VERSION", said))

    @staticmethod
    def in_order(text, seen):
        """A number of a version becomes its place among those that were shown."""
        head, _, number = text.rpartition(b" ")
        number = int(number.removeprefix(b"c"))
        seen.append(number)
        return b"%s CAS%d" % (head, list(dict.fromkeys(seen)).index(number))

    def test_every_promise(self):
        self.compare(CASES, self.theirs)

    def test_control_commands(self):
        self.compare(CONTROL, self.default)

    def compare(self, cases, oracle):
        for promise, steps in cases:
            servers = (self.ours, oracle)
            peers = [server.connect() for server in servers]
            seen = [[], []]
            for peer in peers:
                peer.ask(b"flush_all")
            for step in steps:
                with self.subTest(promise=promise, step=step[:80]):
                    ours, theirs = (self.answer(*one, step, numbers) for *one, numbers in zip(servers, peers, seen))
                    self.assertEqual(ours[:400], theirs[:400])
                    self.assertEqual(ours, theirs)
            for peer in peers:
                peer.close()

    def test_sasl_is_an_unknown_command_where_nobody_authenticates(self):
        def frame(opcode, key=b"", value=b"", extras=b"", opaque=7):
            return struct.pack(">BBHBBHIIQ", 0x80, opcode, len(key), len(extras), 0, 0, len(key + extras + value), opaque, 0) + extras + key + value
        for asked in (frame(0x20), frame(0x21, b"PLAIN", b"\0user\0password"), frame(0x22, b"PLAIN", b"\0user\0password"), frame(0x21, b"CRAM-MD5"),
                      frame(0x21), frame(0x22), frame(0x20, b"PLAIN"), frame(0x21, b"m" * 40, b"x" * 1000)):
            said = []
            for server in (self.ours, self.theirs):
                peer = server.connect()
                peer.send(asked + frame(0x01, b"a", b"v", b"\0" * 8) + frame(0x0a, opaque=9) + frame(0x07))
                try:
                    while peer.fill():
                        pass
                except ConnectionResetError:
                    pass
                said.append(re.sub(rb"(?<=\x81\x01.{14}).{8}", b"", peer.buffer, flags=re.DOTALL))  # a cas number
                peer.close()
            self.assertEqual(said[0], said[1], asked[:40])

    def test_shutdown_ends_the_daemon_as_it_ends_memcached(self):
        """Its answer, what another client sees, and the exit status; then the same by signals."""
        for how in (b"shutdown\r\n", b"shutdown graceful\r\n", b"mn\r\nshutdown\r\n", signal.SIGTERM, signal.SIGINT):
            said = []
            for kind in (Server.ebbd, Server.memcached):
                server = kind(flags=["-A"])
                self.addCleanup(server.kill)
                peers = [server.connect(), server.connect()]
                peers[1].ask(b"mn")
                if isinstance(how, bytes):
                    peers[0].send(how)
                else:
                    server.process.send_signal(how)
                closed = [peer.closed() for peer in peers]
                said.append((closed, peers[0].buffer, server.process.wait(STOP_SECONDS_MAX)))
                for peer in peers:
                    peer.close()
            self.assertEqual(said[0], said[1], how)
            self.assertEqual(said[0][2], 0)


if __name__ == "__main__":
    unittest.main()
