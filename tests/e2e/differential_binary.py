#!/usr/bin/python3
"""differential_binary -- the same random frames of the binary protocol to ebbd and to the real memcached.

    differential_binary.py [--seed N] [--commands N] [--seconds N] [--flag=-I2m ...]

Works as differential.py, whose servers, batches and cutting down it uses; a batch ends with a noop that is known by its
opaque. Beyond its rules:

1. Replies are compared as frames: the cas numbers of one server map one to one to the other's, the version is told by
   each in its own words, all else is equal byte for byte.
2. A number that was read (get, touch, gat) is let go of by memcached at the next noop: so such a frame brings one.
3. memcached passes over too many bytes behind an unknown opcode that has extras or a key (they are counted twice); it
   alone gets so many bytes more. Broken bytes are the same for both, so they have no such frame. Behind a key that ends
   the connection there is nothing to pass over: bytes that nobody reads would cost the replies on their way.
4. Broken bytes are sent when all before them was answered; then the sending half is closed. Whatever memcached had not
   sent when it closes is lost: so its replies to the broken bytes have to be a beginning of ebbd's.
5. A body of more than 1 GiB ends the connection here, as in later memcacheds: one error, and nothing behind it.
6. A flush in the future takes back an earlier one that memcached has not yet acted on; ebbd's stays. So all are at once.
"""
import socket
import struct
import sys
import time

import differences
import differential
from differential import CONNECTIONS, Batch, Commands, Pair, Side

HEADER = struct.Struct(">BBHBBHIIQ")
REQUEST, ANSWER = 0x80, 0x81
CAS_ABSENT = 999999999999999
KEY_MAX = 250
END_OPAQUE, PART_OPAQUE = 0xfffffffe, 0xfffffffd
(GET, SET, ADD, REPLACE, DELETE, INCR, DECR, QUIT, FLUSH, GETQ, NOOP, VERSION, GETK, GETKQ, APPEND, PREPEND, STAT, SETQ,
 ADDQ, REPLACEQ, DELETEQ, INCRQ, DECRQ, QUITQ, FLUSHQ, APPENDQ, PREPENDQ, VERBOSITY, TOUCH, GAT, GATQ) = range(0x1f)
SASL_LIST, SASL_AUTH, SASL_STEP, GATK, GATKQ = range(0x20, 0x25)
UNKNOWN = [VERBOSITY, 0x1f] + list(range(0x25, 0x100))
READING = {GET, GETQ, GETK, GETKQ, TOUCH, GAT, GATQ, GATK, GATKQ}
TTLS = [0, 0, 0, 1000, 86400, 2592000, 2592001, 4000000000, 0x7fffffff, 0x80000000, 0xfffffffe, 0xffffffff]
FLAGS = [0, 0, 0, 1, 42, 0xffffffff, 0x80000000]
NUMBERS = [b"0", b"1", b"9", b"10", b"99", b"100", b"12345", b"4611686018427387904", b"99999999999999999999", b"-1", b"1 ",
           b" 1", b"1x", b"", b"007", b"1" * 21, b"4294967295"]
SMALL_DELTAS = [0, 1, 7, 10, 99, 100, 65535, 0xffffffff]
LARGE_DELTAS = [0x7fffffffffffffff, 0x8000000000000000, 0xffffffffffffffff]


def header(opcode, key=0, extras=0, body=0, opaque=0, cas=0, magic=REQUEST, vbucket=0, datatype=0):
    return HEADER.pack(magic, opcode, key, extras, datatype, vbucket, body, opaque, cas)


END = header(NOOP, opaque=END_OPAQUE)
PART = header(NOOP, opaque=PART_OPAQUE)
END_REPLY = header(NOOP, opaque=END_OPAQUE, magic=ANSWER)
PART_REPLY = header(NOOP, opaque=PART_OPAQUE, magic=ANSWER)


class Frame:
    """A request. cas: None, or what is added to the number last shown for its key."""
    __slots__ = ("opcode", "extras", "key", "value", "opaque", "cas", "more")

    def __init__(self, opcode, extras, key, value, opaque, cas=None, more=b""):
        self.opcode, self.extras, self.key, self.value = opcode, extras, key, value
        self.opaque, self.cas, self.more = opaque, cas, more

    def bytes(self, shown, oracle=False):
        cas = 0 if self.cas is None else shown.get(self.key, CAS_ABSENT) + self.cas
        head = header(self.opcode, len(self.key), len(self.extras), len(self.extras) + len(self.key) + len(self.value),
                      self.opaque, cas)
        out = b"".join((head, self.extras, self.key, self.value, self.more))
        if oracle and self.shifts_the_oracle():
            out += bytes(len(self.extras) + len(self.key))
        return out

    def shifts_the_oracle(self):
        return self.opcode in UNKNOWN and bool(self.extras or self.key) and len(self.key) <= KEY_MAX

    def __len__(self):
        return 0  # short enough to be shown

    def __bool__(self):
        return True

    def __repr__(self):
        return (f"opcode {self.opcode:#04x} extras {self.extras.hex()} key {differential.shorter(self.key, 40)!r} "
                f"value {differential.shorter(self.value, 60)!r} cas {self.cas} more {self.more[:60]!r}")


class Frames(Batch):
    """A batch. closer: a frame that ends the connection, or bytes after which nothing is certain."""
    __slots__ = ()

    def __init__(self, connection, commands, cuts=(), closer=None):
        super().__init__(connection, commands, cuts, 0.0, closer)

    def like(self, commands, cuts):
        return Frames(self.connection, commands, cuts, self.closer)

    @property
    def broken(self):
        return type(self.closer) is bytes

    def bytes(self, shown, server):
        parts = [c.bytes(shown, server.oracle) for c in self.commands]
        if self.broken:
            parts.append(PART)
        else:
            parts.append(self.closer.bytes(shown, server.oracle) if self.closer else END)
        return b"".join(parts)


# ---------------------------------------------------------------- frames

class Maker:
    def __init__(self, rng):
        self.rng = rng
        self.text = Commands(rng)  # its keys and values
        self.mixed = Commands.table([
            (24, self.get), (20, self.store), (6, self.join), (5, self.delete), (6, self.touch), (6, self.gat), (3, self.noop),
            (1, self.version), (1, self.stat), (0.7, self.sasl), (1, self.unknown), (3, self.cas), (2, self.count),
            (0.4, self.more_behind), (0.02, self.flush), (0.06, self.large), (0.03, self.too_large)])
        self.counting = Commands.table([
            (6, self.number_store), (24, self.count), (6, self.get), (2, self.gat), (2, self.touch), (2, self.delete),
            (1, self.cas), (0.02, self.flush)])
        self.numbers = False

    def some(self, count, numbers=False):
        self.numbers = self.text.number = numbers
        makers, weights = self.counting if numbers else self.mixed
        frames = [maker() for maker in self.rng.choices(makers, cum_weights=weights, k=count)]
        return self.not_counted_after_reading(frames)

    @staticmethod
    def not_counted_after_reading(frames):
        """While the reply of a read is unsent, memcached counts in a new item and leaves out the padding: timing decides."""
        read, kept = set(), []
        for frame in frames:
            if frame.opcode in READING:
                read.add(frame.key)
            if frame.opcode not in (INCR, INCRQ, DECR, DECRQ) or frame.key not in read:
                kept.append(frame)
        return kept

    def frame(self, opcode, key=b"", value=b"", extras=b"", cas=None, more=b""):
        if self.numbers and opcode in READING:
            more = header(NOOP, opaque=7)
        return Frame(opcode, extras, key, value, self.rng.randrange(0xfffffff0), cas, more)

    def key(self):
        return self.text.key()

    def quiet(self, loud, quiet):
        return quiet if self.rng.random() < 0.4 else loud

    def some_cas(self):
        draw = self.rng.random()
        return None if draw < 0.85 else 0 if draw < 0.95 else self.rng.choice((100000000, 7000000000))

    def ttl(self):
        return self.rng.choice(TTLS)

    def get(self):
        return self.frame(self.rng.choice((GET, GETQ, GETK, GETKQ)), self.key())

    def stores(self, opcode, key, value, cas=None):
        return self.frame(opcode, key, value, struct.pack(">II", self.rng.choice(FLAGS), self.ttl() if not self.numbers else 0), cas)

    def store(self):
        return self.stores(self.rng.choice((SET, SET, SETQ, SETQ, ADD, ADDQ, REPLACE, REPLACEQ)), self.key(), self.text.value(),
                           self.some_cas())

    def cas(self):
        value = self.rng.choice(NUMBERS) if self.numbers else self.text.value()
        return self.stores(self.rng.choice((SET, SETQ, ADD, REPLACE)), self.key(), value, 0)

    def number_store(self):
        return self.stores(self.rng.choice((SET, SETQ, SET, ADD, REPLACE)), self.key(), self.rng.choice(NUMBERS))

    def join(self):
        return self.frame(self.rng.choice((APPEND, APPENDQ, PREPEND, PREPENDQ)), self.key(), self.text.value()[:300],
                          cas=self.some_cas())

    def delete(self):
        return self.frame(self.quiet(DELETE, DELETEQ), self.key(), cas=self.some_cas())

    def touch(self):
        return self.frame(TOUCH, self.key(), extras=struct.pack(">I", self.ttl()))

    def gat(self):
        return self.frame(self.rng.choice((GAT, GATQ, GATK, GATKQ)), self.key(), extras=struct.pack(">I", self.ttl()))

    def count(self):
        up = self.rng.random() < 0.5
        delta = self.rng.choice(SMALL_DELTAS if up else SMALL_DELTAS + LARGE_DELTAS)
        opcode = self.quiet(INCR, INCRQ) if up else self.quiet(DECR, DECRQ)
        ttl = self.rng.choice((0, 0xffffffff, 0xffffffff, 1000, 0xfffffffe))
        return self.frame(opcode, self.key(), extras=struct.pack(">QQI", delta, self.rng.choice(SMALL_DELTAS), ttl),
                          cas=self.some_cas())

    def noop(self):
        return self.frame(NOOP)

    def version(self):
        return self.frame(VERSION)

    def stat(self):
        return self.frame(STAT, self.rng.choice((b"reset", b"detail", b"nonsense", b"conns", b"resetting")))

    def sasl(self):
        opcode = self.rng.choice((SASL_LIST, SASL_AUTH, SASL_STEP))
        return self.frame(opcode, *((b"PLAIN", b"\0user\0password") if opcode != SASL_LIST else ()))

    def unknown(self):
        rng = self.rng
        return self.frame(rng.choice(UNKNOWN), rng.choice((b"", self.key())), rng.choice((b"", b"v" * rng.randint(1, 400))),
                          bytes(rng.choice((0, 4, 8, 20, 30))))

    def more_behind(self):
        """A frame whose body goes on behind its key: memcached takes that for the next frame."""
        behind = header(NOOP, opaque=self.rng.randrange(1 << 31)) * self.rng.randint(1, 3)
        opcode = self.rng.choice((TOUCH, GAT, GATK, STAT))
        if opcode == STAT:
            return self.frame(STAT, b"reset", behind)
        return self.frame(opcode, self.key(), behind, struct.pack(">I", 0))

    def flush(self):
        return self.frame(self.quiet(FLUSH, FLUSHQ), extras=self.rng.choice((b"", bytes(4))))

    def large(self):
        length = self.rng.choice((16384, 16385, 20000, 65536, 262144, 500000, 524288, 900000, 1000000)) + self.rng.randint(-3, 3)
        value = (self.text.noise_block * (length // len(self.text.noise_block) + 1))[:length]
        key = self.rng.choice((b"big1", b"big2"))
        opcode = self.rng.choice((SET, SETQ, ADD, REPLACE, APPEND, GETK))
        if opcode == GETK:
            return self.frame(GETK, key)
        return self.frame(APPEND, key, value) if opcode == APPEND else self.stores(opcode, key, value, self.some_cas())

    def too_large(self):
        value = b"t" * self.rng.choice((1048576, 1048577, 1100000, 2000000))
        key = self.rng.choice((b"big1", b"big2", self.key()))
        return self.frame(APPEND, key, value) if self.rng.random() < 0.3 else self.stores(self.rng.choice((SET, SETQ, ADD)), key, value)

    # -- frames that end the connection in an orderly way

    def closer(self):
        rng, key = self.rng, self.key()
        extras = struct.pack(">II", 0, 0)
        return rng.choice((
            lambda: self.frame(QUIT), lambda: self.frame(QUITQ),
            lambda: self.frame(GET), lambda: self.frame(GET, key, b"x"), lambda: self.frame(GET, key, extras=b"1234"),
            lambda: self.frame(SET, key, b"v"), lambda: self.frame(SET, b"", b"v", extras), lambda: self.frame(SETQ, key, b"v", b"1234"),
            lambda: self.frame(DELETE), lambda: self.frame(DELETEQ, key, b"v"), lambda: self.frame(INCR, key, b"", b"12345678"),
            lambda: self.frame(DECR, key, b"v", bytes(20)), lambda: self.frame(NOOP, key), lambda: self.frame(VERSION, b"", b"v"),
            lambda: self.frame(FLUSH, b"", b"", b"1"), lambda: self.frame(FLUSH, key), lambda: self.frame(TOUCH, key),
            lambda: self.frame(GAT, b"", b"", bytes(4)), lambda: self.frame(APPEND, key, b"v", bytes(4)), lambda: self.frame(PREPEND),
            lambda: self.frame(STAT, b"reset", b"", b"1"), lambda: self.frame(QUIT, key), lambda: self.frame(SASL_LIST, b"PLAIN"),
            lambda: self.frame(SASL_AUTH), lambda: self.frame(GET, b"k" * rng.choice((251, 300, 5000))),
            lambda: self.frame(rng.choice(UNKNOWN), b"k" * 251), lambda: self.frame(SET, b"k" * 251, b"v", extras)))()

    # -- bytes after which nothing is certain

    def broken(self):
        rng = self.rng
        good = b"".join(c.bytes({}) for c in self.some(rng.randint(1, 3))
                        if len(c.value) < 10000 and not c.shifts_the_oracle())
        kind = rng.randrange(7)
        if kind == 0:  # another magic
            return bytes((rng.choice((0, 0x81, 0x7f, 0xff, 0x67)),)) + good[1:]
        if kind == 1:  # any byte of a header is another
            at = rng.randrange(2, 16)
            return good[:at] + bytes((rng.randrange(256),)) + good[at + 1:]
        if kind == 2:  # lengths that do not add up
            key = self.key()
            return header(rng.randrange(0x25), len(key) + rng.randint(0, 3), rng.choice((0, 4, 8, 20)), rng.randrange(40)) + key + bytes(40)
        if kind == 3:  # a body too large for anybody
            extras = 8 if rng.random() < 0.7 else 0
            return header(rng.choice((SET, SETQ, ADD, REPLACE, APPEND, GET, 0x77)), 2, extras, rng.choice((
                0x7fffffff, 0x80000000, 0x80000000 + extras + 2, 0xffffffff, 0x7fffffff + extras + 2, 0x10000000))) + bytes(extras) + b"zz" + b"v" * 30
        if kind == 4:  # a key longer than memcached reads
            return header(GET, rng.choice((16360, 16361, 20000, 65535)), 0, 65535) + b"k" * rng.choice((100, 16360, 16361, 30000))
        if kind == 5:  # it ends too early
            return good[:rng.randrange(len(good)) if good else 0]
        return rng.randbytes(rng.randint(1, 100))


def random_batches(rng, commands_max, seconds_max):
    maker, made, until = Maker(rng), 0, time.monotonic() + seconds_max
    while made < commands_max and time.monotonic() < until:
        count = min(rng.randint(1, differential.BATCH_COMMANDS_MAX) if rng.random() < 0.9 else rng.randint(1, 3), commands_max - made)
        made += count
        cuts = [rng.random() for _ in range(rng.randint(1, 12))] if rng.random() < 0.3 else ()
        if rng.random() < 0.2:
            yield Frames(0, maker.some(count, numbers=True), cuts)
            continue
        connection, commands = rng.randrange(1, CONNECTIONS), maker.some(count)
        end = rng.random()
        if end < 0.06:
            yield Frames(connection, commands, cuts, closer=maker.closer())
        elif end < 0.12:
            yield Frames(connection, commands, cuts, closer=maker.broken() + b"")
        else:
            yield Frames(connection, commands, cuts)


# ---------------------------------------------------------------- comparing

def too_much(data):
    """The row differences.BODY: what ebbd answers to such a frame before it closes; None: this is none."""
    if len(data) < HEADER.size or not differences.OLDER:
        return None
    magic, opcode, key, extras, _, _, body, opaque, _ = HEADER.unpack_from(data)
    if magic != REQUEST or body <= 1 << 30 or len(data) < HEADER.size + key + extras:
        return None
    sentence = b"Invalid arguments"
    return HEADER.pack(ANSWER, opcode, 0, 0, 0, 4, len(sentence), opaque, 0) + sentence


class BinarySide(Side):
    def receive(self, batch):
        """The replies up to the end mark, or to the close."""
        if not batch.broken:
            return self.read_until(batch, END_REPLY)
        before, end = self.read_until(batch, PART_REPLY)
        if end != "open":
            return before, end
        try:
            peer = self.peers[batch.connection]
            peer.sock.sendall(batch.closer)
            peer.sock.shutdown(socket.SHUT_WR)
        except OSError:
            pass
        after, end = self.read_until(batch, None)
        return before + after, end

    def read_until(self, batch, mark):
        peer = self.peers[batch.connection]
        data, peer.buffer = bytearray(peer.buffer), b""
        while mark is None or not data.endswith(mark):
            try:
                piece = peer.sock.recv(1 << 18)
            except ConnectionResetError:
                piece = b""
            except TimeoutError:
                return bytes(data), "silent"
            if not piece:
                peer.close()
                self.peers[batch.connection] = None
                return bytes(data), "closed"
            data += piece
        return bytes(data), "open"


def split(data):
    """Replies as (head without cas, cas, body). A piece at the end that is no frame comes whole."""
    out, at = [], 0
    while at < len(data):
        if len(data) - at < 24:
            out.append((bytes(data[at:]), 0, b""))
            break
        magic, opcode, key, extras, _, status, body, opaque, cas = HEADER.unpack_from(data, at)
        text = data[at + 24:at + 24 + body]
        out.append(((magic, opcode, key, extras, status, len(text) == body, opaque), cas,
                    b"version" if opcode == VERSION and status == 0 else text))
        at += 24 + body
    return out


class BinaryPair(Pair):
    side = BinarySide

    def forget(self, frame):
        """memcached has removed the key of a set that it refused, ebbd has not: now it is gone for both."""
        _, _, key, extras, *_ = HEADER.unpack_from(frame)
        name = frame[HEADER.size + extras:HEADER.size + extras + key]
        for side in (self.ours, self.theirs):
            peer = side.server.connect()
            peer.send(header(DELETEQ, key, 0, key) + name + END if 0 < key <= KEY_MAX else END)
            while not peer.buffer.endswith(END_REPLY) and peer.fill():
                pass
            peer.close()

    def exchange(self, batch):
        self.ours.send(batch)
        self.theirs.send(batch)
        (ours, ours_end), (theirs, theirs_end) = self.ours.receive(batch), self.theirs.receive(batch)
        shown = ours + b"<%s>" % ours_end.encode(), theirs + b"<%s>" % theirs_end.encode()
        if ours_end != theirs_end or ours_end == "silent":
            return shown
        mine, other = split(ours), split(theirs)
        if batch.broken:
            if PART_REPLY in ours and PART_REPLY not in theirs:
                return shown
            if too_much(batch.closer):
                self.forget(batch.closer)
                return None if ours.endswith(PART_REPLY + too_much(batch.closer)) else shown
            mine = mine[:len(other)]
        if len(mine) != len(other):
            return shown
        keys = {c.opaque: c.key for c in batch.commands}
        for (head, cas, body), (their_head, their_cas, their_body) in zip(mine, other):
            if head != their_head or body != their_body or (cas == 0) != (their_cas == 0):
                return shown
            if cas and (self.to_theirs.setdefault(cas, their_cas) != their_cas or self.to_ours.setdefault(their_cas, cas) != cas):
                return shown[0] + b"<cas %d was another item's or version's>" % cas, shown[1] + b"<cas %d>" % their_cas
            if cas and head[-1] in keys:
                self.ours.shown[keys[head[-1]]], self.theirs.shown[keys[head[-1]]] = cas, their_cas
        return None


if __name__ == "__main__":
    sys.exit(differential.main(BinaryPair, random_batches))
