"""Another host to run the load on: a network namespace behind a veth pair, and a real sshd in it.

Its keys, its configuration and its logins lie in a folder of the test's own; it listens in its own
network only, and knows one key. Of this machine it has the user root, as which the test runs.
"""

import contextlib
import os
import select
import shutil
import subprocess
import time

import suite_path  # noqa: F401
from weir_bench import veth
from weir_bench.scenario import SYSTEM_PATH

HOSTS = (veth.CLIENT, "10.99.0.3")   # one sshd answers on both, as two hosts would
READY_SECONDS = 60
# It looks for this folder, and a machine on which sshd never ran has none; so it gets a /run of its
# own.
START = "mount -t tmpfs none /run && mkdir /run/sshd && exec \"$0\" \"$@\""

# The port is the usual one: nobody else is in this network.
CONFIG = """
HostKey {folder}/host
AuthorizedKeysFile {folder}/user.pub
PidFile none
StrictModes no
UsePAM no
PasswordAuthentication no
PermitRootLogin prohibit-password
PrintMotd no
"""


def lacks():
    """Why there can be none here; None if there can."""
    if os.geteuid() != 0:
        return "needs root for network namespaces"
    for program in ("sshd", "ssh", "ssh-keygen", "unshare", "ip"):
        if not find(program):
            return f"{program} is not installed"
    return None


def find(program):
    return shutil.which(program, path=os.environ.get("PATH", "") + SYSTEM_PATH)


class Wire:
    """Use in a `with`: .server is the namespace of this side, .ssh the command that reaches HOSTS
    from there."""

    def __init__(self, folder):
        self.folder = folder
        self.ended = contextlib.ExitStack()

    def __enter__(self):
        with contextlib.ExitStack() as undo:
            self.pair = undo.enter_context(veth.Veth(1500))
            self.server = self.pair.server
            veth.ip(self.pair.client, "address", "add", f"{HOSTS[1]}/{veth.PREFIX}", "dev", "veth0")
            self.make_keys()
            undo.callback(self.stop, self.start())
            self.ended = undo.pop_all()
        return self

    def __exit__(self, *_):
        self.ended.close()

    def path(self, name):
        return os.path.join(self.folder, name)

    def make_keys(self):
        for name in ("host", "user"):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", self.path(name)],
                           check=True, stdin=subprocess.DEVNULL, timeout=READY_SECONDS)
        with open(self.path("host.pub"), encoding="ascii") as file:
            key = " ".join(file.read().split()[:2])
        with open(self.path("known"), "w", encoding="ascii") as file:
            file.write(f"{','.join(HOSTS)} {key}\n")
        with open(self.path("config"), "w", encoding="ascii") as file:
            file.write(CONFIG.format(folder=self.folder))
        self.ssh = (f"ssh -F none -o BatchMode=yes -o IdentitiesOnly=yes -i {self.path('user')} "
                    f"-o UserKnownHostsFile={self.path('known')} -o StrictHostKeyChecking=yes")

    def start(self):
        """sshd, when it listens."""
        sshd = subprocess.Popen(
            ["unshare", "--mount", "sh", "-c", START, find("sshd"), "-D", "-e", "-f",
             self.path("config")], preexec_fn=self.pair.client.enter, stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE, start_new_session=True)
        said, limit = b"", time.monotonic() + READY_SECONDS
        while b"Server listening" not in said:
            ready, _, _ = select.select([sshd.stderr], [], [], max(limit - time.monotonic(), 0))
            more = os.read(sshd.stderr.fileno(), 4096) if ready else b""
            said += more
            if not more:
                self.stop(sshd)
                raise OSError(f"sshd does not listen: {said.decode()}")
        return sshd

    def stop(self, sshd):
        sshd.terminate()
        try:
            sshd.communicate(timeout=READY_SECONDS)
        except subprocess.TimeoutExpired:
            sshd.kill()
            sshd.communicate()

    def received_bytes(self):
        """What this side's end of the wire took in so far."""
        said = subprocess.run(["cat", "/proc/net/dev"], preexec_fn=self.server.enter, check=True,
                              capture_output=True, text=True).stdout
        return int(said.partition("veth0:")[2].split()[0])
