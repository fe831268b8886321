"""Whether the service's port is free, asked once in gunicorn's master before there are workers."""

import errno
import socket
import time
from collections.abc import Mapping

from runtime.config.settings import ConfigError

# A service that is being stopped may still have the port for a moment.
PORT_SECONDS = 3


def demand_port(environ: Mapping[str, str], port: int, seconds: float = PORT_SECONDS) -> None:
    """Raises ConfigError when the port cannot be listened on, or another program does.

    Nothing is asked of a socket that `environ` says is inherited: from systemd, or from the
    gunicorn that this one takes over from.
    """
    if {"LISTEN_FDS", "GUNICORN_FD"} & environ.keys():
        return
    deadline = time.monotonic() + seconds
    while refusal := _refusal_to_listen(port):
        if refusal.errno != errno.EADDRINUSE:
            raise ConfigError(f"PORT {port} cannot be listened on: {refusal.strerror}")
        if time.monotonic() >= deadline:
            raise ConfigError(
                f"PORT {port} is taken by another program: stop that, or set PORT to another"
            )
        time.sleep(0.1)


def _refusal_to_listen(port: int) -> OSError | None:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("0.0.0.0", port))
        except OSError as error:
            return error
    return None
