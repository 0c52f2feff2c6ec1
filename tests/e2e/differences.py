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
SURPLUS = "surplus words"
SHORT = "a command that lacks a word, a line of one letter or none"
WIDE = "a length of more than 31 bits"
NUL = "a NUL in a line"
ME_EXP = "me exp"
SHUTDOWN = "shutdown without -A"
BODY = "binary: a body of more than 1 GiB"

EXACT = "numbers in meta flags, of cas, incr, decr, touch, gat"
META_ERRORS = "meta lines that are wrong"
META_FLAGS = "meta flags E, x, s of ms, C of mg, N of ms, q of ma with N"
HELD = (REFUSED, SURPLUS, SHORT, WIDE, NUL, ME_EXP, SHUTDOWN, BODY, EXACT, META_ERRORS, META_FLAGS)

OLDER = subprocess.run([MEMCACHED, "-V"], check=True, capture_output=True, text=True).stdout.split()[1] == "1.6.18"
KEY_MAX, WORDS_COUNTED, META_WORDS_MAX, LENGTH_MAX = 250, 23, 20, (1 << 31) - 3
NUL_FOR_ORACLE = b"\v"  # a number ends at either; no generator makes one
NUL_AT_START = re.compile(rb"(?<![^ ])\0+")  # no number begins with one, nor with what is put there
KNOWN = frozenset(b"%c" % letter for letter in b"bNTRlOPLkstcfvhuqxFCEMJDI")
LINES = re.compile(rb" *(?:(?P<cas>cas)|(?P<store>set|add|replace|append|prepend)|(?P<meta>m[gsda])|(?P<number>incr|decr|touch|gats?)"
                   rb"|(?P<key>gets?|me|bget)|(?P<other>delete|flush_all|verbosity))(?= |\r?\n)")
FEWEST = {b"set": 5, b"add": 5, b"replace": 5, b"append": 5, b"prepend": 5, b"cas": 5, b"ms": 3, b"incr": 3, b"decr": 3, b"touch": 3, b"gat": 3,
          b"gats": 3, b"flush_all": 1}  # words; of the others 2
EXACT_I32 = re.compile(rb"-?[0-9]{1,10}")
EXPIRY = re.compile(rb"^(ME [^ \r\n]* exp=)-(\d+)(?= la=\d)", re.MULTILINE)  # -1: for ever, to both
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


def _is_exact_u64(word):
    return word.isdigit() and int(word) < 1 << 64


def _length(word):
    number = _number(word)
    return number if number is not None and 0 <= number <= LENGTH_MAX else None


def _is_exact_i32(word):
    return EXACT_I32.fullmatch(word) and -(1 << 31) <= int(word) < 1 << 31


def _with_most(words, most):
    """Without surplus words; noreply stays the last."""
    noreply = [b"noreply"] if words[-1] == b"noreply" and len(words) > most else []
    return words[:most] + noreply


def _with_bad_length(words, at):
    """memcached would cut it to 32 bits."""
    return words[:at] + [b"x"] + words[at + 1:] if _is_i64(words[at]) else words


def _store_line(words, cas):
    """A storage command's words for memcached, the length of the block behind them or None, and whether that is read."""
    most, noreply = 6 if cas else 5, [b"noreply"] if words[-1] == b"noreply" else []
    length = _length(words[4])
    if len(words) > most + len(noreply):
        words = words[:most] + noreply
    if length is None:
        return [ASKED["format"]] if cas and len(words) == 5 else _with_bad_length(words, 4), None, False
    if cas and len(words) == 5:
        return words + [b"x"], length, False
    good = (len(words[1]) <= KEY_MAX and _is_u64(words[2]) and _is_i64(words[3]) and (not cas or _is_exact_u64(words[5])))
    if cas and not _is_exact_u64(words[5]) and _is_u64(words[5]):
        words = words[:5] + [b"x"] + words[6:]
    return words, length, good


def _number_line(words):
    """Of incr, decr, touch, gat: a number that ebbd refuses becomes one that memcached refuses, too."""
    at = 1 if words[0].startswith(b"gat") else 2
    word, delta = words[at], words[0].endswith(b"cr")
    exact = _is_exact_u64(word) if delta else _is_exact_i32(word)
    taken = _is_u64(word) if delta else _is_i64(word)
    words = words if exact or not taken else words[:at] + [b"x"] + words[at + 1:]
    return words if at == 1 else _with_most(words, 3)


def _other_line(words):
    """Of delete, flush_all, verbosity: only so many words."""
    name = words[0]
    if name == b"delete":
        return words if len(words) <= 4 else [name, b"k", b"1"] + ([b"noreply"] if words[-1] == b"noreply" else [])
    if name == b"verbosity" and words[1:] == [b"noreply"]:
        return [b"verbosity", b"x", b"noreply"]
    if name == b"flush_all" and len(words) > 1 and words[1] != b"noreply" and not _is_exact_i32(words[1]) and _is_i64(words[1]):
        words = [name, b"x"] + words[2:]
    return _with_most(words, 3 if name == b"flush_all" and words[-1] != b"noreply" else 2)


# How each error of a meta line is had from memcached 1.6.18; blocks are left out.
TOO_MANY = b"mg k" + b" a" * 18
ASKED = {"format": b"mg " + b"k" * 251, "many": TOO_MANY, "duplicate": b"mg k q q", "invalid": b"mg k z", "key": b"mg = b", "token": b"mg k T",
         "initial": b"mg k Jx", "delta": b"mg k Dx", "either": b"ma k q q"}
BASE64 = re.compile(rb"[A-Za-z0-9+/=]")


def _decodes(key):
    """As memcached decodes base64: other bytes are passed over, the first padding ends it."""
    text = b"".join(BASE64.findall(key))
    if not text or len(text) % 4:
        return False
    for at in range(0, len(text), 4):
        padding = text[at:at + 4].count(b"=")
        if padding:
            return padding <= 2
    return True


def _token_error(letter, token, key):
    if letter in b"TNR":
        return None if _is_exact_i32(token) else "token"
    if letter in b"CEJDF":
        good = token.isdigit() and int(token) < (1 << 32 if letter == b"F" else 1 << 64)
        return None if good else {b"J": "initial", b"D": "delta", b"F": "F"}.get(letter, "token")
    return "key" if letter == b"b" and not _decodes(key) else None


def _meta_error(verb, words, first):
    """What is wrong with the flags, words[first:]; None: nothing."""
    error, seen, wrong = "format", set(), False
    if len(words) > META_WORDS_MAX:
        return "many"
    for word in words[first:]:
        letter = word[:1]
        if letter >= b"\x7f" or letter in seen:
            return "duplicate"
        seen.add(letter)
        if letter not in KNOWN:
            return "invalid"
        why = _token_error(letter, word[1:], words[1])
        wrong = wrong or why is not None
        error = why if why and why != "F" else error
    return error if wrong else None


def _meta_line(verb, words):
    """A meta command's words for memcached, the length of the block behind them or None, and whether that is read."""
    stores = verb == b"ms"
    length = _length(words[2]) if stores else None
    error = "format" if len(words[1]) > KEY_MAX or (stores and length is None) else _meta_error(verb, words, 3 if stores else 2)
    if error:
        return [ASKED["either" if verb == b"ma" and len(words[1]) <= KEY_MAX else error]], length, False
    kept = [word for word in words if word[:1] not in (b"E", b"x") or word in words[:3 if stores else 2]]
    for at, word in enumerate(kept):
        if word[:1] == b"M" and at >= (3 if stores else 2):
            kept[at] = word[:2] if verb in (b"ms", b"ma") and len(word) > 1 else b"MX" if verb in (b"ms", b"ma") else b"MS"
    return kept, length, True


def for_oracle(data):
    """What means to memcached 1.6.18 what `data` means to ebbd."""
    out, at = [], 0
    while True:
        end = data.find(b"\n", at) + 1
        if end == 0:
            out.append(data[at:])
            return b"".join(out)
        line, known = data[at:end], LINES.match(data, at)
        at, length, read = end, None, False
        body = line[:-2] if line.endswith(b"\r\n") and len(line) > 2 else line[:-1]
        if len(body) < 2:
            line = ASKED["format"] + b"\r\n"
        elif known:
            words = [word for word in body.split(b" ") if word]
            if len(words) < FEWEST.get(words[0], 2):
                put = [ASKED["format"]]
            elif known["key"]:
                put = words
            elif known["other"]:
                put = _other_line(words[:WORDS_COUNTED])
            elif known["meta"]:
                put, length, read = _meta_line(known["meta"], words)
            elif known["number"]:
                put = _number_line(words if words[0].startswith(b"gat") else words[:WORDS_COUNTED])
            else:
                words = words[:WORDS_COUNTED]
                put, length, read = _store_line(words, bool(known["cas"]))
            if put != words:
                line = b" ".join(put) + b"\r\n"
        if b"\0" in line:
            line = NUL_AT_START.sub(lambda found: b"\x01" * len(found[0]), line).replace(b"\0", NUL_FOR_ORACLE)
        out.append(line)
        if length is not None:
            if read:
                out.append(data[at:at + length + 2])
            at += length + 2


def met_by(server):
    return server.oracle and OLDER


def alike(reply, server):
    """A reply with what for_oracle() put in place of a NUL; an expiry of memcached's as ebbd tells it."""
    reply = reply.replace(b"\0", NUL_FOR_ORACLE).replace(b"\x01", NUL_FOR_ORACLE)
    if not met_by(server):
        return reply
    reply = reply.replace(b"ERROR: shutdown not enabled\r\n", b"SERVER_ERROR: shutdown not enabled\r\n")
    return EXPIRY.sub(lambda found: found[0] if found[2] == b"1" else found[1] + found[2], reply)
