"""The port that serve and watch listen on."""

import errno
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from src.core.errors import InputError


@contextmanager
def listen(host: str, port: int) -> Iterator[tuple[socket.socket, str]]:
    """Yield a listening socket and its http address. Raises InputError if it cannot be had."""
    with ExitStack() as opened:
        try:
            family, _, _, _, where = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
            listening = opened.enter_context(socket.socket(family))
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listening.bind(where)
            listening.listen(1024)
        except UnicodeError as error:  # "a..b", or a name of more than 63 letters
            raise InputError(
                f"--host {host}: is not a host name; give an address of this machine, such as 127.0.0.1"
            ) from error
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise InputError(f"--port {port}: another program listens there; give another, or 0 for any") from error
            raise InputError(f"--host {host} --port {port}: {error.strerror or error}") from error
        shown = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # nosec: what to open on this machine
        shown = f"[{shown}]" if ":" in shown else shown
        yield listening, f"http://{shown}:{listening.getsockname()[1]}"
