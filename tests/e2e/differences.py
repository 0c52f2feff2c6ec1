"""differences -- what ebbd does otherwise than memcached 1.6.18, as the differential tests meet it.

Random commands run into some rows of src/ebbd/tbl/differences.def. What is sent to memcached is put here so that it
means to it what the original means to ebbd; so nothing is left out of the comparison. HELD names the rows that this
holds: each must be in the table.

A later memcached (EBB_MEMCACHED) meets none of that: all is said to it as it is, and more is asked.

1. for_oracle() walks lines and blocks as ebbd does: what it takes for a block is never looked at as a line.
2. A block that ebbd passes over, and memcached would read as commands, is not sent to memcached at all.
"""
import os
import re
import subprocess

from servers import MEMCACHED, SOURCE

REFUSED = "set, add, replace, append, prepend, cas, ms: a line that is refused"
SURPLUS = "set, add, replace, append, prepend, cas with surplus words"
WIDE = "a length of more than 31 bits"
NUL = "a NUL in a line"
ME_EXP = "me exp"
PASSED_OVER = "binary: a value of 2 GiB and more that is refused"

META_FLAGS = "meta flags E, x, s of ms, C of mg, N of ms, q of ma with N"
HELD = (REFUSED, SURPLUS, WIDE, NUL, ME_EXP, PASSED_OVER, META_FLAGS)

OLDER = subprocess.run([MEMCACHED, "-V"], check=True, capture_output=True, text=True).stdout.split()[1] == "1.6.18"
KEY_MAX, WORDS_COUNTED, META_WORDS_MAX, LENGTH_MAX = 250, 23, 19, (1 << 31) - 3
NUL_FOR_ORACLE = b"\v"  # a number ends at either; no generator makes one
NUL_AT_START = re.compile(rb"(?<![^ ])\0+")  # no number begins with one, nor with what is put there
STORES = re.compile(rb" *(?:(?P<cas>cas)|(?P<ms>ms)|set|add|replace|append|prepend)(?= |\r?\n)")
EXPIRY = re.compile(rb"^(ME [^ \r\n]* exp=)-(\d+)(?= la=\d)", re.MULTILINE)  # -1: for ever, to both
META = re.compile(rb" *m[gsda] ")
NUMBER = re.compile(rb"[ \t-\r]*(?P<sign>[-+]?)(?P<digits>\d+)(?=[ \t-\r\0]|\Z)")

with open(os.path.join(SOURCE, "src/ebbd/tbl/differences.def"), encoding="utf-8") as table:
    _table = table.read()
for _row in HELD:
    assert f'EBB_DIFFERENCE("{_row}",' in _table, f"no row in differences.def: {_row}"


def _number(word):
    """As strtoul and strtol read it; None: no number."""
    match = NUMBER.match(word)
    return match and int(match["sign"] + match["digits"])


def _is_u64(word):
    number = _number(word)
    if number is None or abs(number) >= 1 << 64:
        return False
    return number % (1 << 64) < 1 << 63 or b"-" not in word.split(b"\0")[0]


def _is_i64(word):
    number = _number(word)
    return number is not None and -(1 << 63) <= number < 1 << 63


def _length(word):
    number = _number(word)
    return number if number is not None and 0 <= number <= LENGTH_MAX else None


def _with_bad_length(words, at):
    """memcached would cut it to 32 bits."""
    return words[:at] + [b"x"] + words[at + 1:] if _is_i64(words[at]) else words


def _store_line(words, cas):
    """A storage command's words for memcached, the length of the block behind them or None, and whether that is read."""
    if len(words) < 5:
        return words, None, False
    most, noreply = 6 if cas else 5, [b"noreply"] if words[-1] == b"noreply" else []
    length = _length(words[4])
    if len(words) > most + len(noreply):
        words = words[:most] + noreply
    if length is None:
        return _with_bad_length(words, 4), None, False
    if cas and len(words) == 5:
        return words + [b"x"], length, False
    good = (len(words[1]) <= KEY_MAX and _is_u64(words[2]) and _is_i64(words[3]) and (not cas or _is_u64(words[5])))
    return words, length, good


def _meta_line(words):
    if len(words) < 3:
        return words, None, False
    length = _length(words[2])
    if length is None:
        return _with_bad_length(words, 2), None, False
    return words, length, len(words[1]) <= KEY_MAX and len(words) <= META_WORDS_MAX


def _without_new_flags(line):
    """E and x as if they were not there; a bad E as another bad token. What they do is left to later memcacheds."""
    end = line[len(line.rstrip(b"\r\n")):]
    words = line.rstrip(b"\r\n").split(b" ")
    bad = next(letter for letter in (b"R", b"C", b"T", b"N", b"") if not any(word[:1] == letter for word in words))
    kept = words[:2]
    for word in words[2:]:
        if word[:1] == b"E" and not _is_u64(word[1:]):
            word = bad
        if word[:1] not in (b"E", b"x"):
            kept.append(word)
    return b" ".join(kept) + end


def for_oracle(data):
    """What means to memcached 1.6.18 what `data` means to ebbd."""
    out, at = [], 0
    while True:
        end = data.find(b"\n", at) + 1
        if end == 0:
            out.append(data[at:])
            return b"".join(out)
        line, store = data[at:end], STORES.match(data, at)
        at = end
        if store:
            body = line[:-2] if line.endswith(b"\r\n") else line[:-1]
            words = [word for word in body.split(b" ") if word][:WORDS_COUNTED]
            put, length, read = _meta_line(words) if store["ms"] else _store_line(words, bool(store["cas"]))
            if put != words:
                line = b" ".join(put) + b"\r\n"
        if (b" E" in line or b" x" in line) and META.match(line):
            line = _without_new_flags(line)
        if b"\0" in line:
            line = NUL_AT_START.sub(lambda found: b"\x01" * len(found[0]), line).replace(b"\0", NUL_FOR_ORACLE)
        out.append(line)
        if store and length is not None:
            if read:
                out.append(data[at:at + length + 2])
            at += length + 2


def met_by(server):
    return server.oracle and OLDER


def alike(reply, server):
    """A reply with what for_oracle() put in place of a NUL; an expiry of memcached's as ebbd tells it."""
    reply = reply.replace(b"\0", NUL_FOR_ORACLE).replace(b"\x01", NUL_FOR_ORACLE)
    return EXPIRY.sub(lambda found: found[0] if found[2] == b"1" else found[1] + found[2], reply) if met_by(server) else reply
