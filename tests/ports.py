"""Ports of this machine for the servers that tests start."""

import random
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

EPHEMERAL = Path("/proc/sys/net/ipv4/ip_local_port_range")
# Linux' default, for systems that do not say.
EPHEMERAL_PORTS = (32_768, 60_999)
LOWEST = 10_000


def free_port() -> int:
    """A port that is free now, and that the kernel gives to no client.

    Another server may take it before ours does: `tests.servers.Server.start` takes another then.
    """
    while True:
        port = random.randrange(*range_of_ports())
        with socket.socket() as probe:
            if _is_bound(probe, port):
                return port


def range_of_ports() -> tuple[int, int]:
    """The first port to choose from, and the one behind the last: the larger part of those that
    the kernel does not give to clients.
    """
    first, last = EPHEMERAL_PORTS
    if EPHEMERAL.exists():
        first, last = map(int, EPHEMERAL.read_text().split())
    return max((LOWEST, first), (last + 1, 65_536), key=lambda ports: ports[1] - ports[0])


@contextmanager
def nobody_listening() -> Iterator[int]:
    """A port that refuses: bound, so that nobody else takes it, and not listened on."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]


def is_taken(port: int) -> bool:
    """Whether no server could listen on the port."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        return not _is_bound(probe, port)


def is_taken_by_another(port: int, pids: list[int]) -> bool:
    """Whether a program listens on the port that is none of these processes.

    False where the system does not tell.
    """
    inodes = _listeners(port)
    return bool(inodes) and not any(inodes & _sockets(pid) for pid in pids)


def _is_bound(probe: socket.socket, port: int) -> bool:
    try:
        probe.bind(("0.0.0.0", port))
    except OSError:
        return False
    return True


def _listeners(port: int) -> set[str]:
    """The inodes of the sockets that listen on a port (state 0A in proc_pid_net(5))."""
    rows = [row.split() for name in ("tcp", "tcp6") for row in _table(name)]
    return {row[9] for row in rows if row[3] == "0A" and row[1].endswith(f":{port:04X}")}


def _table(name: str) -> list[str]:
    path = Path(f"/proc/net/{name}")
    return path.read_text().splitlines()[1:] if path.exists() else []


def _sockets(pid: int) -> set[str]:
    """The inodes of a process' sockets; none when it is gone."""
    found = set()
    try:
        for file in Path(f"/proc/{pid}/fd").iterdir():
            target = str(file.readlink())
            if target.startswith("socket:["):
                found.add(target.removeprefix("socket:[").removesuffix("]"))
    except OSError:
        pass
    return found
