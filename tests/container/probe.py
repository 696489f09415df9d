"""Prints which calls this container answers and which it refuses, one line each.

Every call is made with arguments that have no effect where it is allowed, so that
anything but EPERM or ENOSYS means the call reached the kernel. Calls named as arguments
must be refused: exit status 1 if one is not.
"""

import ctypes
import errno
import os
import platform
import socket
import sys

X86_64, AARCH64 = 0, 1
COLUMN = {"x86_64": X86_64, "aarch64": AARCH64}.get(platform.machine())
if COLUMN is None:
    sys.exit(f"probe.py: no call numbers for {platform.machine()}")

CLONE_NEWUSER, CLONE_THREAD = 0x10000000, 0x00010000

# name, (x86_64, aarch64), arguments
CALLS = [
    ("pidfd_getfd", (438, 438), (-1, 0, 0)),
    ("kcmp", (312, 272), (0, 0, 99, 0, 0)),
    ("unshare", (272, 97), (0,)),
    ("setns", (308, 268), (-1, 0)),
    ("mount", (165, 40), (0, 0, 0, 0, 0)),
    ("umount2", (166, 39), (0, -1)),
    ("open_tree", (428, 428), (-1, 0, 0)),
    ("fsopen", (430, 430), (0, 0)),
    ("pivot_root", (155, 41), (0, 0)),
    ("bpf", (321, 280), (-1, 0, 0)),
    ("perf_event_open", (298, 241), (0, 0, -1, -1, 0)),
    ("open_by_handle_at", (304, 265), (-1, 0, 0)),
    ("keyctl", (250, 219), (-1, 0, 0, 0, 0)),
    ("userfaultfd", (323, 282), (-1,)),
    ("io_uring_setup", (425, 425), (0, 0)),
    # A new user namespace. Without CLONE_VM a new thread is EINVAL: no process is made.
    ("clone", (56, 220), (CLONE_NEWUSER | CLONE_THREAD, 0, 0, 0, 0)),
    ("clone3", (435, 435), (0, 0)),
    ("seccomp", (317, 277), (99, 0, 0)),
    ("landlock_create_ruleset", (444, 444), (0, 0, 1)),
    ("process_vm_readv", (310, 270), (os.getpid(), 0, 0, 0, 0, 0)),
    ("pidfd_open", (434, 434), (-1, 0)),
]


def main() -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    results = []
    for name, numbers, arguments in CALLS:
        ctypes.set_errno(0)
        value = libc.syscall(ctypes.c_long(numbers[COLUMN]), *(ctypes.c_long(a) for a in arguments))
        results.append((name, value, ctypes.get_errno() if value == -1 else 0))
    for name, family in (("socket AF_ALG", 38), ("socket AF_VSOCK", 40)):
        try:
            socket.socket(family, socket.SOCK_STREAM).close()
            results.append((name, 0, 0))
        except OSError as error:
            results.append((name, -1, error.errno))
    refused = set()
    for name, value, number in results:
        answer = str(value) if number == 0 else errno.errorcode.get(number, number)
        if number in (errno.EPERM, errno.ENOSYS):
            refused.add(name)
        print(f"  {name:<24} {'refused' if name in refused else 'reached'} ({answer})")
    missing = set(sys.argv[1:]) - refused
    if missing:
        sys.exit(f"probe.py: not refused here: {', '.join(sorted(missing))}")


main()
