"""Installs the build into a folder of its own and does with it what README.md says."""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import unittest

TOP = os.path.normpath(os.path.join(os.path.dirname(os.path.abspath(__file__)), "../.."))
sys.path.insert(0, os.path.join(TOP, "tests/e2e"))
from programs import LIMIT, Lines, receive_end  # noqa: E402

STRICT = ("-std=c17", "-Wall", "-Wextra", "-Wpedantic", "-Werror")


def run(*command, **options):
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60,
                          **options).stdout


def example():
    """The C program of README.md: all of its blocks, one after the other."""
    with open(os.path.join(TOP, "README.md"), encoding="utf-8") as file:
        return "\n".join(re.findall(r"```c\n(.*?)```", file.read(), re.S))


class Install(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = tempfile.mkdtemp(prefix="weir-install-")
        cls.addClassCleanup(shutil.rmtree, cls.folder)
        run("meson", "install", "-C", os.environ["WEIR_BUILD"], "--no-rebuild", "--destdir",
            os.path.join(cls.folder, "root"))
        cls.files = {}
        for folder, _, names in os.walk(os.path.join(cls.folder, "root")):
            cls.files.update((name, os.path.join(folder, name)) for name in names)
        cls.source = os.path.join(cls.folder, "lines.c")
        with open(cls.source, "w", encoding="utf-8") as file:
            file.write(example())

    def pkg_config(self, *options):
        """What a program is built with."""
        environment = {**os.environ, "PKG_CONFIG_SYSROOT_DIR": os.path.join(self.folder, "root"),
                       "PKG_CONFIG_PATH": os.path.dirname(self.files["weir.pc"])}
        return run("pkg-config", *options, "weir", env=environment).split()

    def assert_counts_lines(self, program):
        """It is served as README.md says."""
        environment = {**os.environ, "LD_LIBRARY_PATH": os.path.dirname(self.files["libweir.so"])}
        process = subprocess.Popen([program, "127.0.0.1:0"], stdout=subprocess.PIPE,
                                   stderr=subprocess.DEVNULL, env=environment)
        try:
            line = Lines(process.stdout.fileno()).next()
            self.assertRegex(line, r"^listening lines 127\.0\.0\.1:[1-9]\d* engine=\w+$")
            port = int(line.split()[2].rpartition(":")[2])
            with socket.create_connection(("127.0.0.1", port), LIMIT) as client:
                client.sendall(b"one\ntwo\nthree\n" * 1000)
                client.shutdown(socket.SHUT_WR)
                self.assertEqual(receive_end(client), b"3000 lines\n")
        finally:
            process.kill()
            process.wait()
            process.stdout.close()

    def test_everything_is_there(self):
        """Programs, libraries, header, pkg-config file, manual pages, scenarios, profiles."""
        for name in ("weir", "weir-load", "weir-bench", "libweir.a", "libweir.so", "libweir.so.0",
                     "weir.h", "weir.pc", "weir.1", "weir-load.1", "weir-bench.1", "quick.toml",
                     "container_profile.py"):
            self.assertIn(name, self.files)

    def test_an_installed_profile_is_the_runtimes_and_three_calls(self):
        """The program stands where docs/security.md says, may be run, and adds what it has to."""
        program = self.files["container_profile.py"]
        self.assertTrue(program.endswith("/share/weir/container_profile.py"), program)
        rule = {"names": ["read", "write"], "action": "SCMP_ACT_ALLOW"}
        profile = {"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 1, "syscalls": [rule]}
        made = json.loads(run(program, input=json.dumps(profile), cwd=self.folder))
        calls = ["io_uring_enter", "io_uring_register", "io_uring_setup"]
        self.assertEqual(made, {**profile, "syscalls": [
            rule, {"names": calls, "action": "SCMP_ACT_ALLOW"}]})

    def test_the_shared_library_exports_what_its_header_says(self):
        """Neither private symbols nor liburing's, and nothing is missing."""
        listed = run("nm", "-D", "--defined-only", self.files["libweir.so"])
        with open(self.files["weir.h"], encoding="utf-8") as file:
            declared = re.findall(r"^WEIR_PUBLIC [^;]*?\b(weir_\w+)\(", file.read(), re.M)
        self.assertEqual({line.split()[-1] for line in listed.splitlines()}, set(declared))
        self.assertIn("[libweir.so.0]", run("readelf", "-d", self.files["libweir.so"]))

    def test_the_example_runs_with_the_shared_library(self):
        """Without a warning, and without liburing."""
        program = os.path.join(self.folder, "shared")
        run("cc", *STRICT, "-o", program, self.source, *self.pkg_config("--cflags", "--libs"))
        self.assertNotIn("liburing", run("ldd", program))
        self.assert_counts_lines(program)

    def test_the_example_runs_with_the_static_library(self):
        """Whether or not the distribution has a liburing."""
        program = os.path.join(self.folder, "static")
        run("cc", *STRICT, "-static", "-o", program, self.source,
            *self.pkg_config("--static", "--cflags", "--libs"))
        self.assert_counts_lines(program)

    def test_the_header_is_c_plus_plus_too(self):
        """Where a compiler for it is there."""
        if not shutil.which("c++"):
            self.skipTest("no C++ compiler here")
        run("c++", "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-fsyntax-only", "-x", "c++", "-",
            *self.pkg_config("--cflags"), input="#include <weir.h>\n")

    def test_an_installed_weir_bench_finds_its_scenarios(self):
        """From its own place, not from the source tree."""
        suite = os.path.dirname(os.path.dirname(self.files["session.py"]))
        self.assertIn("quick ", run(os.path.join(suite, "weir-bench"), "list", cwd=self.folder))


if __name__ == "__main__":
    unittest.main()
