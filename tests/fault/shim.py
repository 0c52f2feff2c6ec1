"""shim -- the page that fault.c obeys, and the two tables that it is made from."""
import errno
import mmap
import os
import re
import socket
import stat
import struct
import subprocess
import time

HERE = os.path.dirname(os.path.abspath(__file__))
SOURCE = os.path.dirname(os.path.dirname(HERE))
LIBRARY = os.environ.get("EBB_FAULT_LIBRARY", os.path.join(SOURCE, "build/deploy/tests/fault/libfault.so"))

ORDERS = struct.Struct("<iiiII")   # call, kind, answer, first, every
COUNTS = struct.Struct("<II")      # met, failed
SITE = struct.Struct("<24sQ")
SITES_MAX = 8
NO_CALL = -1
ANSWERS = {"LESS": 1000, "ON": 1001, "BACK": 1002}
KINDS = {"ANY": -1, "OTHER": 0, "DATAGRAM": 2, "EPOLL_CTL_ADD": 1, "CLOCK_REALTIME": time.CLOCK_REALTIME}


def rows(file, macro):
    with open(os.path.join(HERE, file)) as table:
        return [re.split(r",\s*", row) for row in re.findall(rf"^{macro}\((.*)\)$", table.read(), re.M)]


CALLS = [row[1] for row in rows("calls.def", "CALL")]


class Fault:
    """A row of faults.def."""

    def __init__(self, call, kind, answer):
        self.call, self.kind, self.answer = call, kind, answer

    def orders(self, first, every):
        kind = KINDS[self.kind] if self.kind in KINDS else getattr(stat, self.kind)
        answer = ANSWERS.get(self.answer) or getattr(errno, self.answer, None) or getattr(socket, self.answer)
        if self.answer in ("ON", "BACK"):
            every = 1  # a clock that was set stays set
        return ORDERS.pack(CALLS.index(self.call), kind, answer, first, every)

    def __str__(self):
        return f"{self.call} {self.kind} {self.answer}"


FAULTS = [Fault(*row) for row in rows("faults.def", "FAULT")]


class Page:
    """The shared page: one for each daemon that is tortured."""

    def __init__(self, path):
        self.path = path
        self.sites_at = ORDERS.size + COUNTS.size + 4 * len(CALLS)
        self.sites_at += -self.sites_at % 8
        size = self.sites_at + SITES_MAX * (SITE.size)
        with open(path, "wb+") as file:
            file.truncate(size)
            os.fchmod(file.fileno(), 0o666)
            self.map = mmap.mmap(file.fileno(), size)
        self.disarm()

    def disarm(self):
        self.armed = None
        self.map[:ORDERS.size] = ORDERS.pack(NO_CALL, 0, 0, 0, 0)

    def arm(self, fault, first, every=0):
        self.disarm()
        self.armed = fault, first, every
        self.map[ORDERS.size:ORDERS.size + COUNTS.size] = bytes(COUNTS.size)
        self.map[self.sites_at:] = bytes(SITES_MAX * SITE.size)
        # The call last: until it is named nothing happens.
        orders = fault.orders(first, every)
        self.map[4:ORDERS.size] = orders[4:]
        self.map[:4] = orders[:4]

    def arm_again(self):
        """As if nothing had happened yet."""
        if self.armed:
            self.arm(*self.armed)

    @property
    def failed(self):
        return COUNTS.unpack_from(self.map, ORDERS.size)[1]

    def seen(self):
        """Calls since the page was made: name -> count."""
        counts = struct.unpack_from(f"<{len(CALLS)}I", self.map, ORDERS.size + COUNTS.size)
        return dict(zip(CALLS, counts))

    def sites(self, program):
        """Where the calls that failed came from."""
        found = []
        for index in range(min(self.failed, SITES_MAX)):
            module, offset = SITE.unpack_from(self.map, self.sites_at + index * SITE.size)
            module = module.rstrip(b"\0").decode()
            found.append(module and f"{module}+{offset:#x}" or name_of(program, offset))
        return list(dict.fromkeys(found))


def name_of(program, offset):
    done = subprocess.run(["addr2line", "-fse", program, hex(offset - 1)], capture_output=True, text=True)
    return " at ".join(done.stdout.split()[:2]) or hex(offset)
