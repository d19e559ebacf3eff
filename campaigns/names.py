"""A host name of a campaign's own, which resolves or does not: the twelfth kind of fault.

It is done with the resolver itself: processes are started in a mount namespace in which `/etc/hosts` is a file of
ours and `/etc/resolv.conf` names a port on which no DNS server listens. With the name in that file it resolves to
127.0.0.1; without, `getaddrinfo` fails as it does when the name server is away. That needs root, or user namespaces.
"""

from __future__ import annotations

import os
import random
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from attrs import define, field

NAME = "mlflow.test"
_MOUNT = 'mount --bind "$1" /etc/hosts && mount --bind "$2" /etc/resolv.conf && shift 2 && exec "$@"'


@define
class HostName:
    """The name `mlflow.test` for the processes that `before` starts; files in `folder`."""

    folder: Path
    lapses: int = field(default=0, init=False)
    """How often it has stopped resolving."""

    def __attrs_post_init__(self) -> None:
        self._resolver.write_text("nameserver 127.0.0.1\noptions timeout:1 attempts:1\n")
        self.appear()

    @property
    def before(self) -> tuple[str, ...]:
        """The command that runs another one with this name."""
        unshare = ["unshare", "--mount"] if os.geteuid() == 0 else ["unshare", "--mount", "--map-root-user"]
        return (*unshare, "sh", "-c", _MOUNT, "sh", str(self._hosts), str(self._resolver))

    def is_possible(self) -> bool:
        """Whether this machine lets us have namespaces."""
        return subprocess.run([*self.before, "true"], capture_output=True, check=False).returncode == 0

    def appear(self) -> None:
        """From now on the name resolves."""
        self._hosts.write_text(f"127.0.0.1 localhost {NAME}\n")  # in place: what is mounted is this very file

    def vanish(self) -> None:
        """From now on it does not."""
        self.lapses += 1
        self._hosts.write_text("127.0.0.1 localhost\n")

    @contextmanager
    def flickering(self, *, seed: int, seconds: float = 1.5) -> Iterator[None]:
        """For the length of a block the name comes and goes, each time for up to `seconds`; then it is there."""
        draw, stop = random.Random(seed), threading.Event()

        def flicker() -> None:
            while not stop.wait(draw.uniform(0.1, seconds)):
                self.vanish()
                stop.wait(draw.uniform(0.1, seconds))
                self.appear()

        thread = threading.Thread(target=flicker, daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()
            self.appear()

    @property
    def _hosts(self) -> Path:
        return self.folder / "hosts"

    @property
    def _resolver(self) -> Path:
        return self.folder / "resolv.conf"
