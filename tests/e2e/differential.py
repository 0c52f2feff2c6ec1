#!/usr/bin/python3
"""differential -- the same random commands to ebbd and to the real memcached: the replies must be equal, byte for byte.

    differential.py [--seed N] [--commands N] [--seconds N] [--expiry ROUNDS] [--flag=-I2m ...]

A run is a list of batches. A batch goes to one of several connections of both servers, all its commands in one stream
that is cut at random places; it ends with `version`, whose reply marks the end of the batch's replies. Only then comes
the next batch, so the order of effects is defined although there are several connections.

1. Both servers get the same bytes, except for cas numbers: a command names "the cas that was last shown for this key"
   and each server gets its own number; and except for what differs on purpose: differences.py names each row of the
   table of differences that random commands meet, and puts the command for memcached so that it means the same.
2. Replies are equal after cas numbers are set aside; and the numbers of one server map one to one to the other's.
   What the seconds of the clock are in (the time left, the last access) may differ by a few.
3. Whatever a broken data block swallows ends inside its batch: filler lines stand before the end mark.
4. memcached overwrites a number in place only while no reply that holds it waits to be sent. So a number is read and
   counted on one connection only, and never counted after it was read in the same batch.
5. memcached drops the replies it has not sent yet when a get names a bad key, so such a get begins its batch. And
   it drops some when it is told to quit: a quit is a batch of its own.
6. No stored number reaches 2^63, and none is white space alone: memcached looks for a '-' in the one, for digits in the
   other, beyond their end, in whatever lay there before. (Transcripts test large ones, where nothing lay there.)
7. Nothing here depends on the clock, except in --expiry, where all that is short-lived is stored well before and looked
   at well after its second.

On a difference the run is cut down to the fewest batches, then the fewest commands, that still differ, on fresh servers
each time, and printed. Exit status 1.
"""
import argparse
import itertools
import os
import random
import re
import sys
import time

import differences
from metacommands import Cas, MetaCommands, Reply, alike_times
from servers import EBBD, MEMCACHED, REPLY_SECONDS_MAX, Server, is_memcached, scaled, test_folder

CONNECTIONS = 4
BATCH_COMMANDS_MAX = 160
HISTORY_BATCHES = 4096
SERVER_FLAGS = ["-m", "1024"]
# Without its LRU thread, which now and then holds an item for a moment and so keeps a number from being overwritten;
# with chunks as they are with that thread, in bytes or (later ones) KiB: no number begins in a chunked value.
ORACLE_FLAGS = ["-o", "no_modern,slab_chunk_max=524288"]
LATER_FLAGS = ["-o", "no_modern,slab_chunk_max=512"]
FILLER = b"get filler-filler-filler-filler-filler-filler\r\n" * 2
END_MARK = re.compile(rb"VERSION [^\r\n]*\r\n\Z")
SHOWS_CAS = re.compile(rb"VALUE [^ \r\n]+ \d+ \d+ \d+\r\n| [kclt]|^ME ", re.MULTILINE)
SHORT_TTL_SECONDS = 3


class Batch:
    """Commands for one connection. closer: a line that ends the connection, instead of the end mark."""
    __slots__ = ("connection", "commands", "cuts", "sleep", "closer")

    def __init__(self, connection, commands, cuts=(), sleep=0.0, closer=None):
        self.connection, self.commands, self.cuts, self.sleep, self.closer = connection, commands, cuts, sleep, closer

    def like(self, commands, cuts):
        return Batch(self.connection, commands, cuts, self.sleep, self.closer)

    def bytes(self, shown, server):
        """What is sent to this one."""
        data = b"".join([c if type(c) is bytes else c.bytes(shown) for c in self.commands]
                        + [self.closer or FILLER + b"version\r\n"])
        return differences.for_oracle(data) if differences.met_by(server) else data


# ---------------------------------------------------------------- commands

NUMBERS_GOOD = [b"0", b"1", b"7", b"10", b"99", b"100", b"65535", b"4294967295", b"18446744073709551615"]
NUMBERS_BAD = [b"-1", b"-0", b"+1", b"a", b"1a", b"", b"0x10", b"1.5", b"1e3", b"18446744073709551616",
               b"99999999999999999999999", b"4294967296", b"-4294967296", b"9223372036854775807",
               b"9223372036854775808", b"-9223372036854775808", b"2147483647", b"2147483648", b"-2147483649",
               b"00", b"007", b" 1", b"\t1", b"1\t", b"--1", b"noreply"]
TTL_GOOD = [b"0", b"0", b"0", b"1000", b"2000", b"86400", b"2592000", b"-1", b"-100", b"2592001", b"4000000000"]
HUGE = {b"18446744073709551615", b"9223372036854775807", b"9223372036854775808"}
# Never a lifetime of a few seconds: what it leaves would depend on the clock.
TTL_BAD = [b"-0", b"+5000", b"a", b"5000a", b"", b"0x10", b"5000.5", b"1e3", b"18446744073709551616", b"2147483647",
           b"2147483648", b"-2147483649", b"4294967296", b"-4294967296", b"9223372036854775807", b"9223372036854775808",
           b"00", b"05000", b" 5000", b"\t5000", b"5000\t", b"--1", b"noreply"]
FLAGS_GOOD = [b"0", b"0", b"0", b"1", b"42", b"65536", b"4294967295"]
KEYS_BAD = [b"k" * 251, b"k" * 300, b"k" * 1000, b"", b"a\x01b", b"\x7f", b"a\tb", b"caf\xc3\xa9", b"a\x00b", b"k" * 250,
            b"noreply", b"0", b"-1"]
CLOSERS = [b"quit\r\n", b"quit\n", b"quit now\r\n", b"quit noreply\r\n"]
NUMERIC = [b"0", b"1", b"9", b"10", b"99", b"100", b"12345", b"99999999999999999999", b"-1", b"1 ", b" 1", b"1x", b"007", b"1" * 21, b"4294967295"]
NOISE = [b"", b" ", b"  ", b"get", b"gets", b"set", b"gat", b"gat 0", b"touch", b"touch k", b"delete", b"incr", b"incr k",
         b"cas", b"cas k 0 0 1", b"set k", b"set k 0", b"set k 0 0", b"add k 0 0", b"hello", b"GET k1", b"Set k 0 0 1",
         b"get ", b" get k1", b"get  k1", b"get k1 ", b"gets k1  k2", b"delete k1 0", b"delete k1 1", b"delete k1 0 noreply",
         b"delete k1 noreply 0", b"delete k1 0 0", b"delete k1 k2 k3 k4", b"incr k1 1 2", b"incr k1 1 noreply x",
         b"touch k1 0 1", b"touch k1 0 noreply", b"get k1\tk2", b"\x00", b"\xff\xfe", b"getx k1", b"verbosity", b"verbosity 1",
         b"verbosity a", b"verbosity 1 noreply", b"verbosity 1 2", b"verbosity 1 2 3 noreply", b"verbosity noreply",
         b"flush_all noreply x", b"flush_all a", b"flush_all 0 2", b"flush_all noreply noreply", b"flush_all 0 0 0",
         b"incr noreply", b"touch noreply",
         b"gat noreply", b"gat noreply k1", b"gats", b"gats 0", b"gats a k1", b"gat a k1", b"gat -1", b"a b c d e f g h i j k l m n o p q r s t u v w x y z",
         b"set k 0 0 1 noreply noreply noreply", b"\n", b"\r", b"get k1\rk2", b"decr k1 -1", b"prepend", b"append k 0 0"]


class Commands(MetaCommands):
    """Random commands over a few hundred keys, so that they meet."""

    def __init__(self, rng):
        self.rng = rng
        self.keys = [b"k%d" % i for i in range(60)] + [b"key:%s:%d" % (b"x" * (i % 200), i) for i in range(200)]
        self.keys += [b"n" * 250, b"m" * 249, b"z"]
        self.numbers = [b"n%d" % i for i in range(40)]
        noise = bytes(rng.choice(b"abcdefghijklmnopqrstuvwxyz0123456789 \r\n\t\x00\xff") for _ in range(1 << 16))
        self.noise_block = re.sub(rb" c(?=[0-9])", b" x", noise)  # a value must not look like a cas number that is shown
        self.mixed = self.table([
            (20, self.get), (16, self.store), (5, self.cas), (5, self.gets), (4, self.delete), (4, self.touch),
            (4, self.gat), (5, self.multiget), (2, self.count), (2, self.bad_count), (3, self.bad_store),
            (3, self.bad_block), (2, self.bad_key), (2, self.noise), (1, self.random_line), (0.6, self.bad_cas),
            (0.3, self.long_multiget), (0.06, self.large), (0.03, self.too_large), (0.02, self.flush),
            (0.3, self.bad_touch), (0.3, self.verbosity), (14, self.meta_get), (10, self.meta_set), (4, self.meta_delete),
            (2, self.meta_debug), (1, self.meta_count), (3, self.meta_noise), (2, self.meta_bad_block)])
        self.counting = self.table([
            (8, self.number_store), (20, self.count), (3, self.bad_count), (8, self.get), (5, self.gets), (2, self.cas),
            (2, self.delete), (2, self.touch), (2, self.gat), (2, self.multiget), (0.02, self.flush),
            (15, self.meta_count), (6, self.meta_get), (4, self.meta_set), (2, self.meta_delete), (1, self.meta_debug)])
        self.number = False

    @staticmethod
    def table(rows):
        return [maker for _, maker in rows], list(itertools.accumulate(weight for weight, _ in rows))

    def some(self, count):
        """Mixed commands over the keys whose values are no numbers."""
        makers, weights = self.mixed
        return [maker() for maker in self.rng.choices(makers, cum_weights=weights, k=count)]

    def some_counting(self, count):
        """Commands over the numbers, in lists: a list ends before it counts what it has read."""
        makers, weights = self.counting
        self.number = True
        lists, read = [[]], set()
        for maker in self.rng.choices(makers, cum_weights=weights, k=count):
            command = maker()
            line = command if type(command) is bytes else command.before
            words = line.removeprefix(FILLER).split(b"\r\n", 1)[0].split(b" ")
            if words[0][:3] in (b"get", b"gat") or words[0] == b"mg":
                read.update(words)
            elif words[0] in (b"incr", b"decr", b"ma") and words[1] in read:
                lists.append([])
                read = set()
            lists[-1].append(command)
        self.number = False
        return lists

    def key(self):
        # Squared: a few keys are met all the time, many now and then.
        keys = self.numbers if self.number else self.keys
        return keys[int(self.rng.random() ** 2 * len(keys))]

    def noreply(self):
        return b" noreply" if self.rng.random() < 0.12 else b""

    def value(self):
        if self.number:
            return self.rng.choice(NUMERIC)
        kind = self.rng.random()
        length = int(kind * 100) if kind < 0.9 else int(self.rng.random() * 5000)
        at = int(self.rng.random() * 60000)
        return b"v" + self.noise_block[at:at + length] if length else b""

    def word(self, good):
        return self.rng.choice(good if self.rng.random() < 0.6 else NUMBERS_BAD)

    def ttl(self):
        return self.rng.choice(TTL_GOOD if self.rng.random() < 0.6 else TTL_BAD)

    def verb(self):
        return self.rng.choice((b"set", b"set", b"set", b"add", b"replace", b"append", b"prepend"))

    def get(self):
        return b"get %s\r\n" % self.key()

    def gets(self):
        return b"gets %s\r\n" % self.key()

    def multiget(self):
        verb = self.rng.choice((b"get ", b"gets "))
        return FILLER + verb + b" ".join([self.key() for _ in range(self.rng.randint(2, 30))]) + b"\r\n"

    def long_multiget(self):
        # Over 2,048 bytes in one line: that it begins with "get " keeps memcached from closing.
        return FILLER + b"get " + b" ".join([self.key() for _ in range(self.rng.randint(40, 400))]) + b"\r\n"

    def store(self):
        value = self.value()
        rng = self.rng
        ttl = b"0" if rng.random() < 0.8 else rng.choice(TTL_GOOD)
        return b"%s %s %s %s %d%s\r\n%s\r\n" % (self.verb(), self.key(), rng.choice(FLAGS_GOOD), ttl, len(value),
                                                self.noreply(), value)

    def number_store(self):
        value = self.value()
        verb = self.rng.choice((b"set", b"set", b"set", b"set", b"add", b"append", b"prepend", b"replace"))
        if verb[-3:] == b"end":
            value = self.rng.choice((b" ", b"x", b""))  # no digits, which could make a number of 2^63
        return b"%s %s %s 0 %d%s\r\n%s\r\n" % (verb, self.key(), self.rng.choice(FLAGS_GOOD), len(value), self.noreply(), value)

    def count(self):
        return self.delta(NUMBERS_GOOD)

    def bad_count(self):
        return self.delta(NUMBERS_GOOD if self.rng.random() < 0.6 else NUMBERS_BAD)

    def delta(self, numbers):
        number = self.rng.choice(numbers)
        verb = b"decr" if number in HUGE else self.rng.choice((b"incr", b"decr"))
        return b"%s %s %s%s\r\n" % (verb, self.key(), number, self.noreply())

    def cas(self):
        key, value = self.key(), self.value()
        off = 0 if self.rng.random() < 0.7 else self.rng.choice((100000000, 7000000000))
        return Cas(b"cas %s %s 0 %d " % (key, self.rng.choice(FLAGS_GOOD), len(value)), key, off,
                   b"%s\r\n%s\r\n" % (self.noreply(), value))

    def bad_cas(self):
        value = self.value()[:200]
        return b"cas %s %s %s %d %s%s\r\n" % (self.key(), self.word(FLAGS_GOOD), self.ttl(), len(value),
                                              self.rng.choice(NUMBERS_BAD), self.noreply()) + value + b"\r\n"

    def delete(self):
        return b"delete %s%s\r\n" % (self.key(), self.noreply())

    def touch(self):
        return b"touch %s %s%s\r\n" % (self.key(), self.rng.choice(TTL_GOOD), self.noreply())

    def bad_touch(self):
        return b"%s %s %s%s\r\n" % (self.rng.choice((b"touch", b"touch", b"gat")), self.key(), self.ttl(),
                                    self.noreply())

    def gat(self):
        verb = self.rng.choice((b"gat", b"gats"))
        keys = b" ".join([self.key() for _ in range(self.rng.choice((1, 1, 1, 2, 5)))])
        return b"%s %s %s\r\n" % (verb, self.rng.choice(TTL_GOOD), keys)

    def bad_store(self):
        # A line with a wrong word: its block is passed over, or read as commands where its length is wrong. An empty block
        # that is longer by its line ("03") would be white space: 6.
        value = self.rng.choice((b"abc", b"get k1", b"hello world", b"", b"v"))
        return b"%s %s %s %s %s%s\r\n%s\r\n" % (self.verb(), self.key(), self.word(FLAGS_GOOD), self.ttl(),
                                                self.rng.choice((b"%d" % len(value), self.bad_length() if value else b"-1")),
                                                self.noreply(), value)

    def bad_length(self):
        return self.rng.choice((b"-1", b"a", b"", b"3a", b"-2147483648", b"2147483647", b"4294967295", b"4294967296",
                                b"99999999999999999999", b"2147483646", b"+3", b"03"))

    def bad_block(self):
        # The block is longer or shorter than the line says.
        length = self.rng.randint(0, 40)
        return b"%s %s 0 0 %d%s\r\n%s%s" % (self.verb(), self.key(), length, self.noreply(),
                                            b"v" * self.rng.randint(max(1, length - 6), length + 6),
                                            self.rng.choice((b"\r\n", b"\n", b"\r\n", b"\r\n\r\n", b"xx\r\n")))

    def bad_key(self):
        verb = self.rng.choice((b"delete %s", b"incr %s 1", b"touch %s 0", b"set %s 0 0 2\r\nab", b"add %s 0 0 2 noreply\r\nab",
                                b"append %s 0 0 2\r\nab", b"cas %s 0 0 2 1\r\nab", b"decr %s 1 noreply"))
        return verb % self.rng.choice(KEYS_BAD) + b"\r\n"

    def bad_get(self):
        # Before the bad key only such as nobody asks for marks of: memcached has read them by then, ebbd has not.
        verb = self.rng.choice((b"get %s", b"gets %s", b"gat 0 %s", b"get big1 %s k2", b"gets big1 big2 %s", b"gats 100 never-stored %s",
                                b"get %s k1"))
        return verb % self.rng.choice(KEYS_BAD) + b"\r\n"

    def noise(self):
        return self.rng.choice(NOISE) + self.rng.choice((b"\r\n", b"\r\n", b"\n"))

    def random_line(self):
        at = int(self.rng.random() * 60000)
        line = self.noise_block[at:at + self.rng.randint(0, 60)]
        return self.rng.choice((b"", b"get ", b"set k1 ", b"incr ", b"touch ", b"delete ")) + line + b"\r\n"

    def large(self):
        length = self.rng.choice((16384, 16385, 20000, 65536, 262144, 500000, 524288, 900000, 1000000))
        length += self.rng.randint(-3, 3)
        block = (self.noise_block * (length // len(self.noise_block) + 1))[:length]
        return b"%s %s 5 0 %d%s\r\n%s\r\n" % (self.verb(), self.rng.choice((b"big1", b"big2", b"k1")), length,
                                              self.noreply(), block)

    def too_large(self):
        length = self.rng.choice((1048576, 1048577, 1100000, 2000000))
        return FILLER + b"%s %s 0 0 %d%s\r\n%s\r\n" % (self.verb(), self.rng.choice((b"big1", b"k2", self.key())), length,
                                                       self.noreply(), b"t" * length)

    def flush(self):
        return self.rng.choice((b"flush_all\r\n", b"flush_all\r\n", b"flush_all 0\r\n", b"flush_all noreply\r\n",
                                b"flush_all 0 noreply\r\n"))

    def verbosity(self):
        return b"verbosity 0%s\r\n" % self.noreply()


def random_batches(rng, commands_max, seconds_max):
    commands = Commands(rng)
    made, until = 0, time.monotonic() + seconds_max
    while made < commands_max and time.monotonic() < until:
        count = rng.randint(1, BATCH_COMMANDS_MAX) if rng.random() < 0.9 else rng.randint(1, 3)
        count = min(count, commands_max - made)
        made += count
        cuts = [rng.random() for _ in range(rng.randint(1, 12))] if rng.random() < 0.3 else ()
        if rng.random() < 0.2:
            yield Batch(rng.randrange(CONNECTIONS), [commands.bad_get()])
        if rng.random() < 0.2:
            for part in commands.some_counting(count):
                yield Batch(0, part, cuts)
        else:
            connection = rng.randrange(1, CONNECTIONS)
            yield Batch(connection, commands.some(count), cuts)
            if rng.random() < 0.03:
                yield Batch(connection, [], closer=rng.choice(CLOSERS))


def expiry_batches(rng, rounds):
    """Short lives: a burst that stores and changes them, a pause that outlives them all, then every key is looked at."""
    commands = Commands(rng)
    ttl = b"%d" % SHORT_TTL_SECONDS
    for number in range(rounds):
        keys = [b"e%d-%d" % (number, i) for i in range(400)]
        burst = []
        for key in keys:
            burst.append(b"set %s 1 %s 2\r\n10\r\n" % (key, rng.choice((ttl, b"0", b"1000", ttl))))
        for key in rng.sample(keys, 300):
            burst.append(rng.choice((
                b"touch %s %s\r\n" % (key, rng.choice((ttl, b"0", b"500", b"-1"))), b"incr %s 5\r\n" % key, b"delete %s\r\n" % key,
                b"gat %s %s\r\n" % (rng.choice((ttl, b"0", b"500")), key), b"append %s 0 0 1\r\n1\r\n" % key,
                b"prepend %s 0 %s 1\r\n1\r\n" % (key, ttl), b"replace %s 0 %s 1\r\n1\r\n" % (key, ttl),
                b"gats %s %s\r\n" % (ttl, key), b"decr %s 1\r\n" % key, b"set %s 0 -1 1\r\nx\r\n" % key)))
        if number % 2:
            burst.append(b"flush_all %d\r\n" % (SHORT_TTL_SECONDS - 1))
        for at in range(0, len(burst), 200):
            yield Batch(rng.randrange(CONNECTIONS), burst[at:at + 200])
        look = [rng.choice((b"get %s\r\n", b"gets %s\r\n", b"add %s 0 0 1\r\na\r\n", b"incr %s 1\r\n", b"touch %s 0\r\n",
                            b"gat 0 %s\r\n", b"append %s 0 0 1\r\na\r\n", b"delete %s\r\n", b"replace %s 0 0 1\r\nr\r\n"))
                % key for key in keys]
        look += [b"get %s\r\n" % key for key in keys]
        yield Batch(0, look[:1] + [], sleep=SHORT_TTL_SECONDS + 2.2)
        for at in range(1, len(look), 200):
            yield Batch(rng.randrange(CONNECTIONS), look[at:at + 200])
        yield Batch(0, commands.some(50))


# ---------------------------------------------------------------- running

class Side:
    """One server, its connections, and the cas numbers it has shown."""

    def __init__(self, path, flags, folder):
        if is_memcached(path):
            flags = flags + (ORACLE_FLAGS if differences.OLDER else LATER_FLAGS)
        self.server = Server(path, flags=flags, folder=folder)
        self.peers = [None] * CONNECTIONS
        self.shown = {}

    def send(self, batch):
        peer = self.peers[batch.connection]
        if peer is None:
            peer = self.peers[batch.connection] = self.server.connect()
        data = batch.bytes(self.shown, self.server)
        places = sorted({int(cut * len(data)) for cut in batch.cuts} - {0}) + [len(data)]
        start = 0
        try:
            for place in places:
                self.write(peer, data[start:place])
                start = place
        except (BrokenPipeError, ConnectionResetError):
            pass  # closed on us: receive finds out, and the other must do the same

    @staticmethod
    def write(peer, data):
        """Sends while reading what comes: a server that waits for us to read must not stop us."""
        sock, at = peer.sock, 0
        if len(data) < 65536:
            sock.sendall(data)
            return
        sock.settimeout(0.0002)
        try:
            while at < len(data):
                try:
                    at += sock.send(data[at:at + 262144])
                except TimeoutError:
                    try:
                        peer.buffer += sock.recv(1 << 18)
                    except TimeoutError:
                        pass
        finally:
            sock.settimeout(REPLY_SECONDS_MAX)

    def receive(self, batch):
        """The replies up to the end mark, which is cut off; up to the close where the peer closed."""
        peer = self.peers[batch.connection]
        pieces, tail = [peer.buffer], peer.buffer[-64:]
        peer.buffer = b""
        while not (tail.endswith(b"\r\n") and END_MARK.search(tail)):
            try:
                piece = peer.sock.recv(1 << 18)
            except ConnectionResetError:
                piece = b""
            except TimeoutError:
                return b"".join(pieces) + b"<no more within %d s>" % REPLY_SECONDS_MAX
            if not piece:
                peer.close()
                self.peers[batch.connection] = None
                return b"".join(pieces) + b"<closed>"
            pieces.append(piece)
            tail = (tail + piece)[-64:]
        return END_MARK.sub(b"", b"".join(pieces))

    def close(self):
        for peer in self.peers:
            if peer:
                peer.close()
        self.server.stop()


class Pair:
    """Both servers. exchange() compares what they say to one batch."""
    side = Side

    def __init__(self, options, folder):
        self.folder = folder
        flags = SERVER_FLAGS + options.flag
        self.ours = self.side(EBBD, flags, test_subfolder(folder, "ours"))
        try:
            self.theirs = self.side(MEMCACHED, flags, test_subfolder(folder, "theirs"))
        except BaseException:
            self.ours.server.kill()
            raise
        self.to_theirs, self.to_ours = {}, {}

    def exchange(self, batch):
        """None, or (ours, theirs) where they differ."""
        if batch.sleep:
            time.sleep(batch.sleep)
        self.ours.send(batch)
        self.theirs.send(batch)
        ours, theirs = (differences.alike(side.receive(batch), side.server) for side in (self.ours, self.theirs))
        if ours == theirs and not SHOWS_CAS.search(ours):
            return None
        mine, others = [], []
        plain, other = Reply(ours, mine).plain, Reply(theirs, others).plain
        if plain != other:
            return plain, other
        if not alike_times(mine, others):
            return ours, theirs
        return self.cas_numbers(ours, theirs, mine, others)

    def cas_numbers(self, ours, theirs, mine, others):
        """Notes the cas numbers shown: one of ours stands for one of theirs, and the other way round."""
        for (what, key, number), (_, _, other) in zip(mine, others):
            if what != b"cas":
                continue
            if self.to_theirs.setdefault(number, other) != other or self.to_ours.setdefault(other, number) != number:
                return (ours + b"<cas %d of %s was another item's or version's>" % (number, key),
                        theirs + b"<cas %d of %s>" % (other, key))
            if number:
                self.ours.shown[key], self.theirs.shown[key] = number, other
        return None

    def close(self):
        try:
            self.ours.close()
        finally:
            self.theirs.close()

    def kill(self):
        self.ours.server.kill()
        self.theirs.server.kill()


def test_subfolder(folder, name):
    path = os.path.join(folder, name)
    os.makedirs(path, exist_ok=True)
    return path


def differs(batches, options, folder):
    """Runs the batches on fresh servers. None, or the index of the first batch that differs with both replies."""
    pair = options.pair(options, folder)
    try:
        for index, batch in enumerate(batches):
            found = pair.exchange(batch)
            if found:
                return index, *found
        return None
    finally:
        pair.kill()


# ---------------------------------------------------------------- shrinking

def fewest(parts, still, until):
    """Delta debugging: the fewest parts for which still(parts) holds, by leaving out ever smaller runs of them."""
    size = max(1, len(parts) // 2)
    while True:
        at, smaller = 0, False
        while at < len(parts):
            if time.monotonic() > until:
                return parts
            rest = parts[:at] + parts[at + size:]
            if rest and still(rest):
                parts, smaller = rest, True
            else:
                at += size
        if size == 1 and not smaller:
            return parts
        size = max(1, size // 2)


def shrink(history, options, folder):
    until = time.monotonic() + options.shrink_seconds

    def still(batches):
        return time.monotonic() < until and differs(batches, options, folder) is not None

    last, count = history, 1
    while count < len(history):
        if still(history[-count:]):
            last = history[-count:]
            break
        count *= 4
    else:
        if not still(history):
            return None
    last = fewest(last, still, until)
    uncut = [b.like(b.commands, ()) for b in last]
    if still(uncut):
        last = uncut

    single = [(b, c) for b in last for c in b.commands or [None]]

    def regroup(pairs):
        out, source = [], None
        for batch, command in pairs:
            if batch is not source:
                out.append(batch.like([], batch.cuts))
                source = batch
            if command is not None:
                out[-1].commands.append(command)
        return out

    return regroup(fewest(single, lambda pairs: still(regroup(pairs)), until))


def shorter(data, limit=400):
    return data if len(data) <= limit else data[:limit // 2] + b"...[%d bytes]..." % (len(data) - limit) + data[-limit // 2:]


def first_difference(ours, theirs):
    at = next((i for i, (a, b) in enumerate(zip(ours, theirs)) if a != b), min(len(ours), len(theirs)))
    return (f"ours:   ...{shorter(ours[max(0, at - 100):], 600)!r}\n"
            f"theirs: ...{shorter(theirs[max(0, at - 100):], 600)!r}")


def report(history, found, options, folder):
    print(f"DIFFERENCE:\n{first_difference(*found)}\ncutting it down ...", flush=True)
    small = shrink(history, options, folder)
    if small is None:
        print("it does not come again with the last batches alone: run the seed again")
        return
    index, ours, theirs = differs(small, options, folder) or (None, b"(gone)", b"(gone)")
    print("reproducer:")
    for number, batch in enumerate(small):
        print(f"  connection {batch.connection}, {len(batch.cuts)} cuts, {batch.sleep} s before"
              + ("   <- differs" if number == index else ""))
        for command in batch.commands:
            if type(command) is Cas:
                command = b"%s<cas of %s%+d>%s" % (command.before, command.key, command.off, command.after)
            print(f"    {shorter(command)!r}")
        if batch.closer:
            print(f"    {batch.closer!r}")
    print(first_difference(ours, theirs), flush=True)


# ---------------------------------------------------------------- main

def main(pair=None, batches_of=random_batches):
    parse = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parse.add_argument("--seed", type=int, default=int(os.environ.get("EBB_SEED", random.SystemRandom().randrange(1 << 32))))
    parse.add_argument("--commands", type=int, default=int(os.environ.get("EBB_DIFFERENTIAL_COMMANDS", scaled(1000000))))
    parse.add_argument("--seconds", type=float, default=1e9, help="stop after so long")
    parse.add_argument("--expiry", type=int, default=0, help="so many rounds of short lives instead")
    parse.add_argument("--flag", action="append", default=[], help="a further flag for both servers")
    parse.add_argument("--shrink-seconds", type=float, default=60)
    options = parse.parse_args()
    options.pair = pair or Pair
    print(f"differential: seed {options.seed}", flush=True)

    rng = random.Random(options.seed)
    batches = expiry_batches(rng, options.expiry) if options.expiry else batches_of(rng, options.commands, options.seconds)
    folder = test_folder("differential")
    pair = options.pair(options, folder)
    history, commands, start = [], 0, time.monotonic()
    try:
        for batch in batches:
            history.append(batch)
            commands += len(batch.commands)
            if len(history) > HISTORY_BATCHES:
                del history[:HISTORY_BATCHES // 2]
            found = pair.exchange(batch)
            if found:
                pair.kill()
                report(history, found, options, folder)
                print(f"after {commands} commands with --seed {options.seed}: replies differ")
                return 1
        pair.close()
    finally:
        pair.kill()
    print(f"differential: {commands} commands, {time.monotonic() - start:.1f} s, 0 differences")
    return 0


if __name__ == "__main__":
    sys.exit(main())
