"""metacommands -- random meta commands for the differential, and what may differ in their replies.

1. A cas number is asked for together with the key ("k c"), so that the reply says whose it is.
2. A number is never given a lifetime (T) while it grows: memcached 1.6.18 gives it to the version that is replaced.
3. Keys in base64 are only stored whole: memcached forgets how the key came when it appends, counts or vivifies, and
   then shows it as it is. ebbd does not forget.
4. What N makes is empty: not among numbers, where a blank behind it would be a number to memcached (it reads on).
5. What later memcacheds do with E, x and others is asked of those only (differences.META_FLAGS).
6. R compares with lifetimes that are far from those that items get here.
"""
import base64
import re

import differences

# One pass over a reply takes out what may differ; (?P<name>) tells what it was.
PLACES = re.compile(
    rb"(?P<value>VALUE (?P<key>[^ \r\n]+) \d+ \d+ )(?P<cas>\d+)\r\n"
    rb"|(?P<echo> k(?P<echo_key>[^ \r\n]+)(?: b)? c)(?P<echo_cas>\d+)(?=[ \r])"
    rb"| t(?P<ttl>-?\d+)(?=[ \r])"
    rb"| l(?P<access>\d+)(?=[ \r])"
    rb"|(?P<debug>ME (?P<debug_key>[^ \r\n]*) )exp=(?P<exp>-?\d+) la=\d+ cas=(?P<debug_cas>\d+) fetch=(?P<fetch>yes|no) cls=\d+ size=(?P<size>\d+)\r\n")
SECONDS_MAX = 5
SIZE_EXACT_MAX = 8000  # a larger item is in chunks in memcached, and its size is that of the chunks


CAS_ABSENT = 999999999999999
EXPLICIT = 1 << 50  # numbers from here on are given to items


class Cas:
    """A command with a place for a cas number: the one last shown for `key`, plus `off`."""
    __slots__ = ("before", "key", "off", "after")

    def __init__(self, before, key, off, after):
        self.before, self.key, self.off, self.after = before, key, off, after

    def bytes(self, shown):
        return b"%s%d%s" % (self.before, shown.get(self.key, CAS_ABSENT) + self.off, self.after)


class Reply:
    """A reply without what may differ; found: (kind, key, number) of each place, in order."""

    def __init__(self, data, found):
        self.found = found
        self.plain = PLACES.sub(self.take, data)

    def take(self, match):
        group = match.groupdict()
        if group["cas"]:
            self.found.append((b"cas", group["key"], int(group["cas"])))
            return group["value"] + b"CAS\r\n"
        if group["echo_cas"]:
            self.found.append((b"cas", group["echo_key"], int(group["echo_cas"])))
            return group["echo"] + b"CAS"
        if group["ttl"]:
            self.found.append((b"ttl", b"", int(group["ttl"])))
            return b" tTTL"
        if group["access"]:
            return b" lACCESS"
        self.found.append((b"cas", group["debug_key"], int(group["debug_cas"])))
        self.found.append((b"ttl", b"", int(group["exp"])))
        size = int(group["size"])
        return group["debug"] + b"%s %d" % (group["fetch"], min(size, SIZE_EXACT_MAX))


def alike_times(ours, theirs):
    """Lifetimes differ by a few seconds at most, and what is for ever is so for both."""
    for (what, _, mine), (_, _, other) in zip(ours, theirs):
        if what == b"ttl" and (abs(mine - other) > SECONDS_MAX or (mine == -1) != (other == -1)):
            return False
    return True


TTL_META = [b"0", b"1000", b"2000", b"86400", b"2592000", b"-1", b"4000000000"]
RECACHE = [b"30", b"30", b"100000", b"0", b"-1"]
TOKENS_BAD = [b"", b"a", b"1x", b"0x10", b"99999999999999999999", b"-", b"+", b"\xff", b"1.5"]
OPAQUES = [b"O", b"O1", b"Oabc", b"O" + b"x" * 31, b"O\xff\x01", b"Ok"]
KEYS64 = [base64.b64encode(key) for key in
          [b"binary %d \r\n\x00" % i for i in range(20)] + [b"\xff" * 187, b"a", b"ab", b"abc", b" ", b"\r\n"]]
KEYS64_BAD = [b"=", b"====", b"A===", b"YQ", b"Y", b"!!!!", b"YQ==!", b"!Y!Q!=!=", b"YQ==YQ==", b"AA=A", b"=AAA", b"k" * 250,
              b"k" * 251, b"YWI=" * 62]
META_LINES = [b"mg", b"ms", b"md", b"ma", b"me", b"mn", b"mn x", b"mx", b"m", b"mgx k1", b"mg ", b"mg  k1  s", b"ms k1", b"ms k1 ",
              b"ms k1 -1", b"ms k1 a", b"ms k1 99999999999999999999", b"ms k1 2147483646x", b"ms k1 s", b"mg k1 v v", b"mg k1 s t s",
              b"md k1 q q", b"ma k1 z", b"md k1 z", b"mg k1 z", b"mg k1 E5", b"mg k1 S2", b"mg k1 x", b"mg k1 \x01",
              b"mg k1 \xff", b"mg k1 ~", b"mg k1 @", b"mg k1 [", b"mg k1 " + b"O" + b"y" * 32, b"md k1 O" + b"y" * 40,
              b"ma k1 O" + b"y" * 40, b"mg miss-key O" + b"y" * 40 + b" k", b"mg k1 " + b"a b c d e f g h i j k l m n o p q",
              b"mg k1 " + b"a b c d e f g h i j k l m n o p q r", b"md k1 " + b"a " * 18, b"ma k1 " + b"a " * 22,
              b"mg k1 s t f h l k q u P1 L2 O1 T0 N R30 I v", b"ms k1 2 " + b"a " * 17 + b"\r\nab",
              b"ms k1 2 " + b"a " * 16 + b"\r\nab", b"ms k1 2 MX\r\nab", b"ms k1 2 M\r\nab", b"ms k1 2 MSS\r\nab",
              b"ms k1 2 T T\r\nab", b"ms k1 2 Fx\r\nab", b"ms k1 2 T Fx\r\nab", b"ms k1 2 Fx T\r\nab", b"ms k1 2 C Fx M\r\nab",
              b"ms k1 2 O" + b"y" * 40 + b" MX\r\nab", b"ms k1 2 O" + b"y" * 40 + b"\r\nab",
              b"ms k1 2 S2\r\nab", b"ma k1 MX", b"ma k1 MI MI", b"ma k1 D-1", b"ma k1 J-1", b"ma k1 Dx Jx", b"ma k1 M",
              b"mg k1 b", b"md k1 b", b"me k1 b", b"me", b"me " + b"k" * 251, b"mg " + b"k" * 251 + b" v", b"ms " + b"k" * 251 + b" 2\r\nab",
              b"mg " + b"k" * 250 + b" k v", b"mg k1\tk2 k", b"mg\tk1 v", b"mg k1 v\x00 s", b"MG k1 v"]


class MetaCommands:
    """For Commands, which brings rng, key(), value(), noise_block and the kind of keys (number)."""

    def flags(self, some):
        """Some of these flags in some order."""
        out = [flag for share, flag in some if self.rng.random() < share]
        self.rng.shuffle(out)
        return b"".join(b" " + flag for flag in out)

    def opaque(self):
        return self.rng.choice(OPAQUES)

    def later(self, *some):
        """Flags for a memcached that has them."""
        return [] if differences.OLDER else list(some)

    def explicit(self):
        """A number that no item has."""
        self.numbered += 1
        return b"E%d" % (EXPLICIT + self.numbered)

    numbered = 0

    def wrong(self):
        """Now and then one that is wrong."""
        letter = self.rng.choice((b"T", b"N", b"R", b"C", b"F", b"M", b"J", b"D", b"E", b"S", b"O" + b"y" * 40))
        return letter + self.rng.choice(TOKENS_BAD)

    def key64(self):
        """A key and the flag b, or an ordinary key."""
        if self.number or self.rng.random() < 0.9:
            return self.key(), b""
        if self.rng.random() < 0.2:
            return self.rng.choice(KEYS64_BAD), b" b"
        return self.rng.choice(KEYS64), b" b"

    def meta_get(self):
        key, b64 = self.key64()
        rng = self.rng
        changes = [] if rng.random() < 0.7 else [(0.3, b"T" + rng.choice(TTL_META)), (0.4, b"R" + rng.choice(RECACHE))]
        if not b64 and not self.number and rng.random() < 0.2:
            changes.append((1, b"N" + rng.choice(TTL_META)))
        return b"mg " + key + b64 + self.flags(
            [(0.6, b"v"), (0.3, b"k c"), (0.2, b"s"), (0.3, b"t"), (0.2, b"f"), (0.2, b"h"), (0.1, b"l"), (0.1, b"u"), (0.2, b"q"),
             (0.2, self.opaque()), (0.03, b"P1"), (0.03, b"Lx"), (0.02, self.wrong()), (0.02, b"I")] + changes
            + self.later((0.1, b"E%d" % rng.randrange(1, 1 << 40)), (0.05, b"x"))) + b"\r\n"

    def meta_set(self):
        key, b64 = self.key64()
        value, rng = self.value(), self.rng
        modes = (b"MS", b"MS", b"ME", b"MR") if b64 else (b"MS", b"ME", b"MA", b"MP", b"MR")
        flags = self.flags(
            [(0.2, b"k c"), (0.2, self.opaque()), (0.2, b"q"), (0.3, b"F%d" % rng.choice((0, 1, 42, 4294967295))), (0.15, b"T" + rng.choice(TTL_META)),
             (0.3, rng.choice(modes)), (0.1, b"I"), (0.02, self.wrong())]
            + self.later((0.2, b"s"), (0.2, self.explicit()), (0.2, b"N" + rng.choice(TTL_META)), (0.05, b"x")))
        line = b"ms %s %d%s%s" % (key, len(value), b64, flags)
        end = b"\r\n%s\r\n" % value
        if rng.random() < 0.25:
            return Cas(line + b" C", key, self.off(), end)
        return line + end

    def off(self):
        # Lower: an older version's, which may leave a stale item (I).
        return 0 if self.rng.random() < 0.6 else self.rng.choice((100000000, 7000000000, -1))

    def meta_delete(self):
        key, b64 = self.key64()
        line = b"md " + key + b64 + self.flags(
            [(0.2, b"k"), (0.2, self.opaque()), (0.2, b"q"), (0.5, b"I"), (0.2, b"T" + self.rng.choice(TTL_META)), (0.02, self.wrong())]
            + self.later((0.3, b"x"), (0.2, self.explicit()), (0.2, b"F9")))
        if self.rng.random() < 0.2:
            return Cas(line + b" C", key, self.off(), b"\r\n")
        return line + b"\r\n"

    def meta_count(self):
        rng, key = self.rng, self.key()
        up = rng.random() < 0.6
        mode = rng.choice((b"MI", b"M+", b"Mi") if up else (b"MD", b"M-", b"Md")) if rng.random() < 0.9 else b"MX"
        mode = mode if mode not in (b"Mi", b"Md") or rng.random() < 0.1 else mode.upper()
        delta = rng.choice((0, 1, 10, 12345)) if up else rng.choice((0, 1, 7, 100, 4294967295, 18446744073709551615))
        flags = [(0.5 if up else 1, mode), (0.5, b"D%d" % delta), (0.6, b"v"), (0.2, b"k c"), (0.2, b"t"), (0.2, self.opaque()), (0.2, b"q"),
                 (0.02, self.wrong())]
        if self.number:
            flags += [(0.3, b"N" + rng.choice(TTL_META)), (0.3, b"J%d" % rng.choice((0, 1, 99, 123456789)))]
            if differences.OLDER:  # not silent there when it makes the number
                flags = [(share, flag) for share, flag in flags if flag != b"q"]
        flags += self.later((0.2, self.explicit()))
        line = b"ma " + key + self.flags(flags)
        if rng.random() < 0.1:
            return Cas(line + b" C", key, self.off(), b"\r\n")
        return line + b"\r\n"

    def meta_debug(self):
        key, b64 = self.key64()
        return b"me " + key + b64 + b"\r\n"

    def meta_noise(self):
        if self.rng.random() < 0.5:
            return self.rng.choice(META_LINES) + b"\r\n"
        words = [self.rng.choice((b"mg", b"md", b"ms")), self.key()]
        if words[0] == b"ms":
            words.append(b"3")
        some = [b"v", b"k", b"q", b"s", b"t", b"f", b"b", b"u", b"I", b"O1", b"P", b"MS", b"C%d" % CAS_ABSENT, b"F7", b"J1", b"D1", self.wrong()]
        if words[0] == b"ms" and differences.OLDER:
            some.remove(b"s")
        words += [self.rng.choice(some) for _ in range(self.rng.randint(0, 6))]
        return b" ".join(words) + b"\r\n" + (b"vab\r\n" if words[0] == b"ms" else b"")

    def meta_bad_block(self):
        length = self.rng.randint(0, 40)
        return b"ms %s %d%s\r\n%s%s" % (self.key(), length, self.flags([(0.3, b"q"), (0.3, b"k"), (0.2, self.opaque()), (0.2, self.wrong())]),
                                        b"v" * self.rng.randint(max(1, length - 6), length + 6),
                                        self.rng.choice((b"\r\n", b"\n", b"\r\n", b"\r\n\r\n", b"xx\r\n")))
