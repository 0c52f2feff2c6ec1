#!/usr/bin/python3
"""wire -- plays transcripts of the protocol against a real daemon, each on a fresh one.

    wire.py [--memcached] FILE.wire ...

The language, one line each (see README.md):
    # text             a comment
    flags: -m 64       flags for the daemon; before the first exchange
    @name              what follows is on this connection; "one" at first; opened when first used
    >>> text           sends text and CRLF
    >>| text           sends text alone
    <<< text           expects text and CRLF, exactly
    <<| text           expects text alone
    <<~ regex          expects a line that matches; (?P<name>...) is kept and is $name afterwards
    --- closed         expects the close of this connection, and nothing before it
    --- hang up        closes this connection
    --- silent         nothing has come on this connection, although the daemon has read all that was sent; needs -t 1
    ... 1.1s           sleeps: only where a lifetime has to pass
    +++ cmd_get 1      this field of `stats` has changed by so much since the start of the transcript
    === metric 1       the same for a sample of /metrics
    only ebbd: why     until `both`, for ebbd alone: a deliberate difference, with its reason
    only memcached: why
    both

Escapes in text: \\r \\n \\t \\0 \\\\ \\s (a space) \\xHH, and {a*300} for 300 times a.

At the end each connection that is open must have nothing more to say: `version` is asked, and its reply comes first.
Exit status 1 when a transcript does not hold; the file and line are named.
"""
import argparse
import os
import re
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "e2e"))
from servers import EBBD, MEMCACHED, REPLY_SECONDS_MAX, Server, ServerError  # noqa: E402

REPEAT = re.compile(r"\{(.+?)\*(\d+)\}")
ESCAPE = re.compile(rb"\\(x[0-9a-fA-F]{2}|.)")
NAMED = {b"r": b"\r", b"n": b"\n", b"t": b"\t", b"0": b"\0", b"\\": b"\\", b"s": b" "}
NAME = re.compile(r"\$([a-z_]+)")


class Mismatch(Exception):
    pass


def unescape(text, names):
    text = NAME.sub(lambda m: names.get(m.group(1), m.group(0)), text)
    text = REPEAT.sub(lambda m: m.group(1) * int(m.group(2)), text)

    def one(match):
        word = match.group(1)
        if word in NAMED:
            return NAMED[word]
        if len(word) == 3:
            return bytes([int(word[1:], 16)])
        raise Mismatch(f"unknown escape {match.group(0)!r}")

    return ESCAPE.sub(one, text.encode("latin-1"))


def brief(data):
    return repr(data if len(data) < 300 else data[:140] + b"...%d bytes..." % (len(data) - 280) + data[-140:])


class Play:
    """One transcript on one daemon."""

    def __init__(self, server, path):
        self.server, self.path = server, path
        self.peers, self.names, self.current = {}, {}, "one"
        self.sent = 0  # bytes, since the stats at the start
        self.stats = server.connect().stats()
        self.metrics = server.metrics() if server.admin else {}

    def peer(self):
        if self.current not in self.peers:
            self.peers[self.current] = self.server.connect()
        return self.peers[self.current]

    def expect(self, due):
        peer = self.peer()
        while len(peer.buffer) < len(due) and due.startswith(peer.buffer):
            try:
                if not peer.fill():
                    raise Mismatch(f"due {brief(due)}\n  closed after {brief(peer.buffer)}")
            except OSError as error:
                raise Mismatch(f"due {brief(due)}\n  got {brief(peer.buffer)}, then: {error}")
        if not peer.buffer.startswith(due):
            raise Mismatch(f"due {brief(due)}\n  got {brief(peer.buffer)}")
        peer.buffer = peer.buffer[len(due):]

    def expect_line(self, pattern):
        try:
            line = self.peer().line()
        except (ServerError, OSError) as error:
            raise Mismatch(f"a line like {pattern} was due: {error}")
        match = re.fullmatch(pattern.encode("latin-1") + rb"\r\n", line)
        if not match:
            raise Mismatch(f"a line like {pattern} was due\n  got {brief(line)}")
        self.names.update({name: value.decode() for name, value in match.groupdict().items()})

    def closed(self):
        if not self.peer().closed():
            raise Mismatch(f"before the close came {brief(self.peer().buffer)}")
        self.peers.pop(self.current).close()

    def silent(self):
        """With one worker: when it answers that it has read all, it has also sent what there was to send."""
        while int(self.stats_now()["bytes_read"]) - int(self.stats["bytes_read"]) < self.sent:
            pass
        peer = self.peer()
        peer.sock.setblocking(False)
        try:
            peer.fill()
        except BlockingIOError:
            pass
        finally:
            peer.sock.settimeout(REPLY_SECONDS_MAX)
        if peer.buffer:
            raise Mismatch(f"silence was due\n  got {brief(peer.buffer)}")

    def stats_now(self):
        other = self.server.connect()
        self.sent += len(b"stats\r\n")
        stats = other.stats()
        other.close()
        return stats

    def send(self, data):
        self.sent += len(data)
        self.peer().send(data)

    def changed(self, what, before, now, text):
        name, delta = text.rsplit(" ", 1)
        if name not in now:
            raise Mismatch(f"{what} has no {name}")
        change = float(now[name]) - float(before.get(name, 0))
        if change != float(delta):
            raise Mismatch(f"{name} changed by {change:g}, {delta} was due")

    def step(self, line):
        head, _, text = line.partition(" ")
        if head in (">>>", ">>|"):
            self.send(unescape(text, self.names) + (b"\r\n" if head == ">>>" else b""))
        elif head in ("<<<", "<<|"):
            self.expect(unescape(text, self.names) + (b"\r\n" if head == "<<<" else b""))
        elif head == "<<~":
            self.expect_line(text)
        elif line == "--- closed":
            self.closed()
        elif line == "--- silent":
            self.silent()
        elif line == "--- hang up":
            self.peers.pop(self.current).close()
        elif head == "...":
            time.sleep(float(text.rstrip("s")))
        elif head == "+++":
            self.changed("stats", self.stats, self.stats_now(), text)
        elif head == "===":
            if self.server.admin:
                self.changed("/metrics", self.metrics, self.server.metrics(), text)
        elif head.startswith("@"):
            self.current = head[1:]
        else:
            raise Mismatch("not a line of a transcript")

    def end(self):
        for name, peer in self.peers.items():
            self.current = name
            peer.send(b"version\r\n")
            self.expect_line("VERSION .*")
            peer.close()


def play(path, memcached):
    with open(path, encoding="latin-1") as file:
        lines = file.read().splitlines()
    flags = [word for line in lines if line.startswith("flags:") for word in line.split()[1:]]
    only, number, line = None, 0, ""
    try:
        with Server(MEMCACHED if memcached else EBBD, flags=flags, admin=True,
                    name="wire-" + os.path.basename(path)[:-5]) as server:
            run = Play(server, path)
            for number, line in enumerate(lines, 1):
                if not line.strip() or line.startswith(("#", "flags:")):
                    continue
                if line.startswith("only "):
                    only, _, reason = line[5:].partition(":")
                    if only not in ("ebbd", "memcached") or not reason.strip():
                        raise Mismatch("`only` needs ebbd or memcached, and a reason")
                elif line == "both":
                    only = None
                elif only is None or (only == "memcached") == server.oracle:
                    run.step(line)
            line = "(end)"
            run.end()
    except (Mismatch, ServerError, OSError) as error:
        print(f"{path}:{number}: {line}\n  {error}", flush=True)
        return False
    return True


def main():
    parse = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parse.add_argument("--memcached", action="store_true", help="plays against the real memcached: tests the transcripts")
    parse.add_argument("files", nargs="+")
    options = parse.parse_args()
    bad = [path for path in options.files if not play(path, options.memcached)]
    print(f"wire: {len(options.files)} transcripts, {len(bad)} do not hold")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
