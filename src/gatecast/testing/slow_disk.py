"""A disk that is slow for one program: each of its fsyncs takes longer. Linux only; needs no privileges.

The program runs under a filter of system calls that reports each fsync and holds the thread that asked for it, and no
other, until it is told to go on (`seccomp_unotify(2)`). So data is on the disk no sooner than on a disk that is slow.
Reads and plain writes stay fast: the system's cache takes them, as it does before a slow disk until it is full.
"""

from __future__ import annotations

import ctypes
import fcntl
import heapq
import os
import platform
import select
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

#: The numbers of seccomp, fsync and fdatasync, by machine.
_CALLS = {"x86_64": (317, 74, 75), "aarch64": (277, 82, 83)}

#: prctl: the program can gain no privileges, so that everybody may filter its calls.
_NO_NEW_PRIVILEGES = 38

_SET_FILTER = 1
_REPORTS = 1 << 3
_REPORT, _ALLOW = 0x7FC00000, 0x7FFF0000
_LOAD, _JUMP_IF_EQUAL, _RETURN = 0x20, 0x15, 0x06

#: Requests to the filter, from `linux/seccomp.h`: take a report, and answer one.
_TAKE, _ANSWER = 0xC0502100, 0xC0182101
_REPORT_SIZE = 80
_GO_ON = 1


class SlowDisk:
    """The disk of one program at a time; as fast as it is until `delay` is set."""

    def __init__(self) -> None:
        #: Seconds that each fsync takes from now on, before it begins.
        self.delay = 0.0
        #: How many fsyncs there were.
        self.syncs = 0

    def start(self, command: Sequence[str]) -> subprocess.Popen[bytes]:
        """Run a program on it.

        Raises:
            OSError: the system cannot filter its calls.
        """
        ours, its = socket.socketpair()
        with ours, its:
            number = str(its.fileno())
            launcher = [sys.executable, "-I", str(Path(__file__)), number, *command]
            process = subprocess.Popen(launcher, pass_fds=[its.fileno()])  # noqa: S603 - our own program
            its.close()
            _, [*received], _, _ = socket.recv_fds(ours, 1, 1)
        if not received:
            raise OSError(f"the calls of {command[0]} cannot be filtered (status {process.wait()})")
        threading.Thread(target=self._hold, args=received, name="slow-disk", daemon=True).start()
        return process

    def _hold(self, reports: int) -> None:
        """Let each fsync go on when its time has come, until the program has ended."""
        held: list[tuple[float, int]] = []
        poll = select.poll()
        poll.register(reports, select.POLLIN)
        try:
            while True:
                wait = max(0.0, held[0][0] - time.monotonic()) * 1000 if held else None
                for _, what in poll.poll(wait):
                    if what & select.POLLHUP:
                        return
                    with _unless_it_ended():
                        report = bytearray(_REPORT_SIZE)
                        fcntl.ioctl(reports, _TAKE, report, True)  # noqa: FBT003 - the standard library's own
                        self.syncs += 1
                        heapq.heappush(held, (time.monotonic() + self.delay, *struct.unpack_from("Q", report)))
                while held and held[0][0] <= time.monotonic():
                    answer = struct.pack("QqiI", heapq.heappop(held)[1], 0, 0, _GO_ON)
                    with _unless_it_ended():
                        fcntl.ioctl(reports, _ANSWER, answer)
        finally:
            os.close(reports)


def is_available() -> bool:
    """Whether the system can filter calls in this way; tried, because a container may forbid what the kernel can do."""
    if sys.platform != "linux" or platform.machine() not in _CALLS:
        return False
    try:
        return SlowDisk().start([sys.executable, "-I", "-c", ""]).wait() == 0
    except OSError:
        return False


class _unless_it_ended(suppress):  # noqa: N801 - reads as a sentence
    """Without the error that the thread which waited is gone."""

    def __init__(self) -> None:
        super().__init__(FileNotFoundError, InterruptedError)


class _Instruction(ctypes.Structure):
    _fields_ = (("code", ctypes.c_ushort), ("yes", ctypes.c_ubyte), ("no", ctypes.c_ubyte), ("value", ctypes.c_uint))


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.POINTER(_Instruction)))


def _seccomp(number: int, operation: int, flags: int, argument: object) -> int:
    return int(ctypes.CDLL(None, use_errno=True).syscall(number, operation, flags, argument))


def _install() -> int:
    """Report every fsync of this process and its children; the descriptor that the reports come on."""
    number, fsync, fdatasync = _CALLS[platform.machine()]
    instructions = [
        _Instruction(_LOAD, 0, 0, 0),
        _Instruction(_JUMP_IF_EQUAL, 1, 0, fsync),
        _Instruction(_JUMP_IF_EQUAL, 0, 1, fdatasync),
        _Instruction(_RETURN, 0, 0, _REPORT),
        _Instruction(_RETURN, 0, 0, _ALLOW),
    ]
    program = _Program(len(instructions), (_Instruction * len(instructions))(*instructions))
    ctypes.CDLL(None).prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0)
    descriptor = _seccomp(number, _SET_FILTER, _REPORTS, ctypes.byref(program))
    if descriptor < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return descriptor


def _main(number: str, *command: str) -> None:
    """Become a program whose fsyncs are reported on a descriptor that is sent on this socket."""
    with socket.socket(fileno=int(number)) as its:
        reports = _install()
        socket.send_fds(its, [b"."], [reports])
        os.close(reports)
    os.execvp(command[0], command)  # noqa: S606 - our own program


if __name__ == "__main__":
    _main(*sys.argv[1:])
