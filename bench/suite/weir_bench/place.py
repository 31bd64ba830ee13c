"""Where a trial takes place: which network its server and its load are in, and by which address
they meet."""

import contextlib
import os
from dataclasses import dataclass

from . import veth
from .namespace import Namespace
from .scenario import DESTINATIONS

SOCKET = "server.sock"


@dataclass
class Place:
    server: object = None     # namespaces; None: this machine's own network
    load: object = None
    host: str = "127.0.0.1"   # what the server listens on
    target: str = ""          # where the load connects to; empty: where the server listens
    path: str = ""            # of the unix socket, instead of all that

    def listen(self, port):
        return f"unix:{self.path}" if self.path else f"{self.host}:{port}"

    def connect(self, listening):
        """The load's address, from the one that the server tells."""
        if self.path or not self.target:
            return listening
        return f"{self.target}:{listening.rpartition(':')[2]}"


@contextlib.contextmanager
def of(cell, folder, host):
    """The place of a trial; what it made is gone afterwards. `host` is this machine's address."""
    if cell.transport == "unix":
        path = os.path.join(folder, SOCKET)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        yield Place(path=path)
    elif cell.transport == "veth":
        with veth.Veth(cell.mtu) as pair:
            target = veth.SERVERS if cell.churn else veth.SERVER
            yield Place(pair.server, pair.client, "0.0.0.0", target)
    elif cell.namespace:
        with Namespace() as own:
            yield Place(own, own, "0.0.0.0", DESTINATIONS)
    else:
        yield Place(host=host)
