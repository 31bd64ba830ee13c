"""Two network namespaces joined by a veth pair: a wire with an MTU, if without a distance.

Neither has a name, so both and the pair between them go when the last process and file that hold
them go: at the trial's end, after Ctrl-C, and after SIGKILL.
"""

import os
import subprocess

from . import Problem
from .namespace import Namespace

SERVER, CLIENT, PREFIX = "10.99.0.1", "10.99.0.2", 24
# The server answers on all of these, so that churn does not run out of ports.
SERVER_NET, SERVERS = "10.99.1.0/24", "10.99.1.1-10.99.1.128"
SECONDS = 10


def ip(namespace, *words, files=()):
    """Runs one `ip` command within the namespace."""
    try:
        said = subprocess.run(["ip", *words], preexec_fn=namespace.enter, pass_fds=files,
                              capture_output=True, text=True, timeout=SECONDS, check=False)
    except (OSError, subprocess.SubprocessError) as error:
        raise Problem(f"ip {' '.join(words)}: {error}") from None
    if said.returncode != 0:
        raise Problem(f"ip {' '.join(words)}: {said.stderr.strip()}")


class Veth:
    """Use in a `with`: .server and .client are namespaces."""

    def __init__(self, mtu):
        if os.geteuid() != 0:
            raise Problem("a veth pair needs root: it joins two network namespaces")
        self.server = Namespace()
        try:
            self.client = Namespace()
        except BaseException:
            self.server.close()
            raise
        try:
            self.join(str(mtu))
        except BaseException:
            self.close()
            raise

    def join(self, mtu):
        other = self.client.files[-1]
        ip(self.server, "link", "add", "veth0", "mtu", mtu, "type", "veth", "peer", "name", "veth0",
           "mtu", mtu, "netns", f"/proc/self/fd/{other}", files=(other,))
        for namespace, address in ((self.server, SERVER), (self.client, CLIENT)):
            ip(namespace, "address", "add", f"{address}/{PREFIX}", "dev", "veth0")
            ip(namespace, "link", "set", "veth0", "up")
        ip(self.server, "route", "add", "local", SERVER_NET, "dev", "lo")
        ip(self.client, "route", "add", SERVER_NET, "via", SERVER)

    def close(self):
        self.server.close()
        self.client.close()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()
