"""Which rungs this machine allows, found out without hopspan: one that is allowed and does not work is a failure."""

import ctypes
import functools
import json
import os
import platform
import re

CAP_SYS_ADMIN, CAP_SYS_PTRACE, CAP_PERFMON, CAP_BPF = 21, 19, 38, 39


def read(path):
    try:
        with open(path) as file:
            return file.read()
    except OSError:
        return ""


def capable(*wanted):
    found = re.search(r"^CapEff:\s*(\w+)", read("/proc/self/status"), re.M)
    held = int(found.group(1), 16) if found else 0
    return any(held >> number & 1 for number in wanted)


def bpf_refused():
    """Why bpf(2) makes no map for this process, or None."""
    numbers = {"x86_64": 321, "aarch64": 280}
    number = numbers.get(platform.machine())
    if number is None:
        return "hopspan's programs are not tried on " + platform.machine()
    libc = ctypes.CDLL(None, use_errno=True)
    array = (ctypes.c_uint32 * 32)(2, 4, 4, 1)  # BPF_MAP_TYPE_ARRAY, sizes of key and value, one entry
    made = libc.syscall(number, 0, ctypes.byref(array), ctypes.sizeof(array))
    if made < 0:
        return "bpf(2) is refused here: " + os.strerror(ctypes.get_errno())
    os.close(made)
    return None


def no_thread():
    release = tuple(int(part) for part in re.findall(r"\d+", platform.release())[:2])
    if platform.system() != "Linux" or release < (6, 3):
        return "the kernel is older than 6.3: " + platform.release()
    if not (capable(CAP_BPF, CAP_SYS_ADMIN) and capable(CAP_PERFMON, CAP_SYS_ADMIN)):
        return "CAP_BPF or CAP_PERFMON is missing"
    if not os.access("/sys/kernel/btf/vmlinux", os.R_OK):
        return "/sys/kernel/btf/vmlinux cannot be read"
    if "[confidentiality]" in read("/sys/kernel/security/lockdown"):
        return "the kernel is locked down"
    return bpf_refused()


def no_serial():
    if platform.system() != "Linux":
        return "not Linux"
    scope = read("/proc/sys/kernel/yama/ptrace_scope").strip()
    if scope == "3" or (scope == "2" and not capable(CAP_SYS_PTRACE)):
        return "kernel.yama.ptrace_scope is " + scope
    return None


@functools.lru_cache(None)
def forbidden(rung):
    """Why the machine does not allow a rung, or None."""
    return {"thread": no_thread, "serial": no_serial}.get(rung, lambda: None)()


def standing(page, rung):
    """What /correlation says of a rung: its state, and what is missing."""
    (found,) = [told for told in json.loads(page)["rungs"] if told["rung"] == rung]
    return found["state"], "%s: %s (%s)" % (found["state"], found["why"], found["code"])


def disagreements(page):
    """Rungs that gave another answer than a stronger one."""
    return json.loads(page)["calls"]["disagreements"]
