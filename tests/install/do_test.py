"""What ./do does before it builds: its functions, with stand-ins for what changes the machine."""

import os
import select
import shutil
import subprocess
import sys
import tempfile
import textwrap
import time
import unittest

TOP = os.path.normpath(os.path.join(os.path.dirname(os.path.abspath(__file__)), "../.."))
# All that the stand-ins and ./do itself need: what else the machine has is not found.
TOOLS = ("awk", "basename", "bash", "cat", "dirname", "env", "mkdir", "sed", "tr")
LOGS = '#!/bin/bash\nprintf "%s\\n" "${0##*/} $*" >>"$LOG"\n'

# Hosts under .example exist nowhere (RFC 2606).
DEBIAN_LIST = """
# deb http://mirror.example/debian bookworm contrib
deb http://mirror.example/debian bookworm main contrib
deb-src http://mirror.example/debian bookworm main
deb [arch=amd64 signed-by=/keys/a.gpg] https://other.example/debian/ stable main
deb [ trusted=yes ] http://spaced.example/debian oldstable main
deb http://mirror.example/debian bookworm-updates main
deb https://third.example/apt tool-bookworm main
"""
DEBIAN_LIST_FOR_TRIXIE = """
deb http://mirror.example/debian trixie main

deb [arch=amd64 signed-by=/keys/a.gpg] https://other.example/debian/ trixie main

deb [ trusted=yes ] http://spaced.example/debian trixie main
"""

DEBIAN_SOURCES = """
Types: deb deb-src
# snapshot
URIs: http://mirror.example/debian
Suites: bookworm bookworm-updates
Components: main
Signed-By: /keys/debian.gpg

Types: deb
URIs: http://mirror.example/debian-security
Suites: bookworm-security
Components: main

Types: deb-src
URIs: http://sources.example/debian
Suites: bookworm
Components: main

Enabled: no
Types: deb
URIs: http://disabled.example/debian
Suites: bookworm
Components: main
"""
DEBIAN_SOURCES_FOR_TRIXIE = """
Types: deb
URIs: http://mirror.example/debian
Suites: trixie
Components: main
Signed-By: /keys/debian.gpg
"""

UBUNTU_SOURCES = """
Types: deb
URIs: http://mirror.example/ubuntu/
Suites: noble noble-updates noble-backports
Components: main restricted universe multiverse
Signed-By: /keys/ubuntu.gpg

Types: deb
URIs: http://security.example/ubuntu/
Suites: noble-security
Components: main restricted universe multiverse
Signed-By: /keys/ubuntu.gpg
"""
UBUNTU_SOURCES_FOR_PLUCKY = """
Types: deb
URIs: http://mirror.example/ubuntu/
Suites: plucky
Components: main universe
Signed-By: /keys/ubuntu.gpg
"""


class Sourced(unittest.TestCase):
    """Runs ./do's functions in a folder of their own, with the programs of its `bin` alone."""

    def setUp(self):
        folder = tempfile.TemporaryDirectory(prefix="weir-do-")
        self.addCleanup(folder.cleanup)
        self.folder = folder.name
        shutil.copy(os.path.join(TOP, "do"), self.folder)
        os.mkdir(self.path("bin"))
        for tool in TOOLS:
            os.symlink(shutil.which(tool), self.path("bin", tool))
        self.log = self.path("log")

    def path(self, *names):
        return os.path.join(self.folder, *names)

    def write(self, name, text):
        os.makedirs(os.path.dirname(self.path(name)), exist_ok=True)
        with open(self.path(name), "w", encoding="utf-8") as file:
            file.write(text)

    def stand_in(self, name, script):
        self.write("bin/" + name, script if script.startswith("#!") else "#!/bin/bash\n" + script)
        os.chmod(self.path("bin", name), 0o755)

    def use(self, *tools):
        """The machine's own, too."""
        for tool in tools:
            if not (found := shutil.which(tool)):
                self.skipTest(f"no {tool} here")
            if not os.path.exists(self.path("bin", tool)):
                os.symlink(found, self.path("bin", tool))

    def source(self, script, **environment):
        """Sources ./do and runs the script; what became of it."""
        return subprocess.run(
            ["bash", "-c", ". ./do; " + script], capture_output=True, text=True, timeout=60,
            cwd=self.folder, check=False,
            env={"PATH": self.path("bin"), "LOG": self.log, **environment})

    def logged(self):
        """What the stand-ins were called with."""
        if not os.path.exists(self.log):
            return []
        with open(self.log, encoding="utf-8") as file:
            return file.read().splitlines()


APT = "apt-get -o DPkg::Lock::Timeout=300"
INSTALLS = f"{APT} install -y --no-install-recommends one two"


class Installing(Sourced):
    def machine(self, user, sudo=False, apt="exit 0"):
        """A user of that number; `apt` is what apt-get does when it was logged."""
        self.stand_in("id", f"echo {user}\n")
        quiet = '[ -z "${DEBIAN_FRONTEND-}" ] || echo quietly >>"$LOG"\n'
        self.stand_in("apt-get", LOGS + quiet + apt)
        if sudo:
            self.stand_in("sudo", LOGS + 'exec "$@"\n')

    # Root installs with apt alone, which asks nothing.
    def test_root_uses_apt_directly(self):
        self.machine(0, sudo=True)
        done = self.source("install_packages one two")
        self.assertEqual((done.returncode, done.stdout), (0, ""), done.stderr)
        self.assertEqual(self.logged(), [INSTALLS, "quietly"])

    # Another user installs with sudo, and is told what.
    def test_other_users_use_sudo(self):
        self.machine(1000, sudo=True)
        done = self.source("install_packages one two")
        self.assertEqual((done.returncode, done.stderr), (0, "== installing with apt: one two\n"))
        self.assertEqual(self.logged(), [
            f"sudo env DEBIAN_FRONTEND=noninteractive {INSTALLS}", INSTALLS, "quietly"])

    # Without either the exact command is printed, and nothing is tried.
    def test_without_sudo_the_command_is_printed(self):
        self.machine(1000)
        done = self.source("install_packages one two; echo went on")
        self.assertEqual((done.returncode, done.stdout), (1, ""))
        self.assertEqual(done.stderr.splitlines()[-1], "do: this needs root, and there is no sudo. "
                         "As root, run:  apt-get install -y one two")
        self.assertEqual(self.logged(), [])
        done = self.source("as_root touch file; echo went on")
        self.assertEqual((done.returncode, done.stdout), (1, ""))
        self.assertIn("As root, run:  touch file\n", done.stderr)

    # A list of packages that is missing or old is fetched, and then it is tried again.
    def test_lists_are_updated_when_a_package_is_not_found(self):
        self.machine(0, apt='case "$*" in *update) : >updated ;; *) [ -e updated ] ;; esac')
        done = self.source("install_packages one two")
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual([line for line in self.logged() if line != "quietly"],
                         [INSTALLS, APT + " update", INSTALLS])

    # What failed is named, with what to do.
    def test_failures_say_what_to_do(self):
        for apt, text in (("exit 100", "do: apt-get update failed: is the network there?"),
                          ('[[ "$*" == *update ]]', "do: apt-get could not install: one two.")):
            self.machine(0, apt=apt)
            done = self.source("install_packages one two; echo went on")
            self.assertEqual((done.returncode, done.stdout), (1, ""))
            self.assertIn(text, done.stderr)
        os.remove(self.path("bin/apt-get"))
        done = self.source("install_packages one two")
        self.assertEqual(done.returncode, 1)
        self.assertIn("do: missing: one two. This is not Debian or Ubuntu", done.stderr)

    # Set-up installs what is missing and nothing else; when all is there, it asks apt for nothing.
    def test_only_what_is_missing_is_installed(self):
        self.machine(0, apt=": >new")
        rows = ("needed=('true|there' 'test -e new|one' 'test -e new|two'); "
                "system_is_new() { true; }; cmd_setup")
        for _ in range(2):
            done = self.source(rows)
            self.assertEqual(done.returncode, 0, done.stderr)
            self.assertEqual(self.logged(), [INSTALLS, "quietly"])
        self.assertEqual(done.stderr, "")
        done = self.source("needed=('false|three'); cmd_setup")
        self.assertEqual(done.returncode, 1)
        self.assertIn("do: still missing after the installation: three", done.stderr)


class Newer(Sourced):
    """Where newer libraries come from, and what is made of them."""

    def source_with_apt(self, script):
        """Apt's own configuration says where the lists lie."""
        self.use("apt-config")
        self.write("apt.conf", f'Dir::Etc::sourcelist "{self.path("etc/main.list")}";\n'
                   f'Dir::Etc::sourceparts "{self.path("etc/parts")}";\n')
        return self.source(script, APT_CONFIG=self.path("apt.conf"))

    def sources(self, old, new, more=""):
        """What sources_for_suite finds in the lists."""
        done = self.source_with_apt(f"{more}sources_for_suite '{old}' {new}")
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        return done.stdout.strip()

    # Lists of one line per source: binaries of the machine's suite, with their options. Neither
    # what is commented out, nor sources, updates and suites of others.
    def test_lists_of_one_line_per_source(self):
        for name in ("etc/main.list", "etc/parts/more.list"):
            with self.subTest(name):
                shutil.rmtree(self.path("etc"), ignore_errors=True)
                self.write("etc/parts/empty.sources", "")
                self.write(name, DEBIAN_LIST)
                self.assertEqual(self.sources("bookworm stable oldstable", "trixie"),
                                 DEBIAN_LIST_FOR_TRIXIE.strip())

    # Lists of a paragraph per source: the same, and the keyring stays that of the machine.
    def test_lists_of_a_paragraph_per_source(self):
        self.write("etc/parts/debian.sources", DEBIAN_SOURCES)
        self.assertEqual(self.sources("bookworm stable oldstable", "trixie"),
                         DEBIAN_SOURCES_FOR_TRIXIE.strip())

    # Ubuntu keeps one of the libraries in another component.
    def test_lists_of_ubuntu(self):
        self.write("etc/parts/ubuntu.sources", UBUNTU_SOURCES)
        found = self.sources("noble stable oldstable", "plucky",
                             more="newer_components=$newer_components_ubuntu; ")
        self.assertEqual(found, UBUNTU_SOURCES_FOR_PLUCKY.strip())

    # A machine without a source of its suite has none of another.
    def test_no_source_of_the_suite(self):
        self.write("etc/parts/ubuntu.sources", UBUNTU_SOURCES)
        self.assertEqual(self.sources("bookworm stable oldstable", "trixie"), "")

    # Packages count as new if each of them is; what has no candidate is not.
    def test_candidates(self):
        self.use("dpkg")
        for uring, llhttp, new in (("2.9-1", "9.2.1~really9.2.1-1", True), ("2.14-1", "9", True),
                                   ("2.3-3", "9.2.1-1", False), ("2.9-1", "6.0.10-2", False),
                                   ("(none)", "9.2.1-1", False), ("2.9-1", "", False)):
            with self.subTest(uring=uring, llhttp=llhttp):
                self.stand_in("apt-cache", textwrap.dedent(f"""\
                    case "$*" in
                        *'policy liburing-dev') candidate='{uring}' ;;
                        *'policy libllhttp-dev') candidate='{llhttp}' ;;
                    esac
                    printf '%s:\\n  Installed: (none)\\n' "${{@: -1}}"
                    [ -z "$candidate" ] || printf '  Candidate: %s\\n' "$candidate"
                    """))
                done = self.source("if candidates_are_new -c some.conf; then echo new; fi")
                self.assertEqual((done.returncode, done.stdout), (0, "new\n" if new else ""))

    def unpacked(self, asm, packages=("liburing", "libllhttp")):
        """A tree like that of the unpacked packages; the script that names its compiler's files."""
        self.use("gcc", "dpkg", "pkg-config")
        triplet = subprocess.run(["gcc", "-print-multiarch"], capture_output=True, text=True,
                                 check=True).stdout.strip()
        self.write(asm.format(triplet=triplet) + "/asm/types.h", "")
        for name in packages:
            self.write(f"tree/usr/lib/{triplet}/pkgconfig/{name}.pc", textwrap.dedent(f"""\
                prefix=/usr
                includedir=/usr/include
                libdir=/usr/lib/{triplet}
                Name: {name}
                Version: 9.9
                Description: a fixture
                Cflags: -I${{includedir}}/{name} -DFIXTURE
                Libs: -L${{libdir}} -l{name}
                """))
        return triplet

    # pkg-config finds what was unpacked, kernel headers first, also when the tree has been moved.
    def test_unpacked_libraries_are_found(self):
        found = self.source("kernel_architecture", PATH=os.environ["PATH"]).stdout.strip()
        for asm in ("include/{triplet}", "lib/linux/uapi/" + found):
            with self.subTest(asm):
                triplet = self.unpacked("tree/usr/" + asm)
                done = self.source("write_pkgconfig tree")
                self.assertEqual((done.returncode, done.stderr), (0, ""))
                os.rename(self.path("tree"), self.path("moved"))
                done = self.source("pkg-config --cflags --libs liburing",
                                   PKG_CONFIG_PATH=self.path("moved/pkgconfig"))
                usr = self.path("moved/pkgconfig/../usr")
                self.assertEqual(done.stdout.split(), [
                    "-isystem", usr + "/include", "-isystem",
                    f"{usr}/{asm.format(triplet=triplet)}", "-isystem", usr + "/include/liburing",
                    "-DFIXTURE", f"-L{usr}/lib/{triplet}", "-lliburing"])
                shutil.rmtree(self.path("moved"))

    # Packages that lack a library are refused, by its name.
    def test_packages_without_the_library_are_refused(self):
        self.unpacked("tree/usr/include/{triplet}", packages=("liburing",))
        done = self.source("write_pkgconfig tree; echo went on")
        self.assertEqual((done.returncode, done.stdout), (1, ""))
        self.assertEqual(done.stderr, "do: the packages brought no libllhttp.pc\n")


    def distribution(self):
        """The machine's own: its name for origins, its suite, and the two that are looked at."""
        done = self.source(". /etc/os-release; declare -n suites=newer_suites_$ID; "
                           'echo "$ID" "$VERSION_CODENAME" "${suites[@]:0:2}"')
        if len(words := done.stdout.split()) != 4:
            self.skipTest("this is neither Debian nor Ubuntu")
        return words

    # The libraries come from the first suite that has them, on the mirror of the machine's own, and
    # lie in .deps when all is there. Its lists are not written, and a second time nothing is asked.
    def test_libraries_of_a_newer_suite(self):
        self.use("dpkg-deb", "flock", "mktemp", "rm", "mv", "id", "grep", "cp", "tar")
        origin, codename, older, newer = self.distribution()
        self.unpacked("tree/usr/include/{triplet}")
        self.write("tree/DEBIAN/control", "Package: fixture\nVersion: 1\nArchitecture: all\n"
                   "Maintainer: nobody <nobody@example>\nDescription: a fixture\n")
        os.chmod(self.path("tree/DEBIAN"), 0o755)
        os.mkdir(self.path("debs"))
        subprocess.run(["dpkg-deb", "--build", self.path("tree"), self.path("debs/fixture.deb")],
                       check=True, capture_output=True, timeout=60)
        list_of = 'for word; do [[ $word = *sourcelist=* ]] && list=${word#*=}; done\n'
        self.stand_in("apt-get", LOGS + list_of + f"""case "$*" in
            *update*) cat "$list" >>"$LOG" ;;
            *indextargets*) echo {origin.capitalize()} ;;
            *download*) cp {self.path("debs")}/*.deb . ;;
            esac""")
        self.stand_in("apt-cache", list_of + f"""grep -q {newer} "$list" && echo '  Candidate: 9.9'
            exit 0""")
        source = f"deb http://mirror.example/all {codename} main\n"
        self.write("etc/main.list", source)
        for asked in ([older, newer], []):
            done = self.source_with_apt("fetch_deps")
            self.assertEqual(done.returncode, 0, done.stderr)
            suites = [line.split()[2] for line in self.logged() if line.startswith("deb ")]
            self.assertEqual(suites, asked)
            self.write("log", "")
        with open(self.path("etc/main.list"), encoding="utf-8") as file:
            self.assertEqual(file.read(), source)
        for name in ("pkgconfig/liburing.pc", "pkgconfig/libllhttp.pc", "usr", "stamp"):
            self.assertTrue(os.path.exists(self.path(".deps", name)), name)
        self.assertEqual([name for name in os.listdir(self.folder) if ".new" in name], [])


class Clients(Sourced):
    """./do clients: what the other tests do without is installed, and then nothing is skipped."""

    def clients(self, **environment):
        """Runs it with one client that is missing; python stands in for itself and logs."""
        self.stand_in("python", LOGS + '[[ "$2" != *$FAILS.py ]]; status=$?\n'
                      'echo "$WEIR $WEIR_FULL$WEIR_BROWSER$TAP_NO_SKIPS" >>"$LOG"\nexit $status\n')
        self.stand_in("npm", LOGS)
        return self.source("cmd_build() { :; }; python=python; "
                           "needed_clients=('test -e new|one two'); cmd_clients",
                           **{"FAILS": "none", **environment})

    # Each file of tests runs with the built server and at full size; none may skip; what it needs
    # is there before. One that fails does not hide the others, and all of it fails.
    def test_all_files_run_and_none_may_skip(self):
        self.stand_in("id", "echo 0")
        self.stand_in("apt-get", LOGS + ": >new")
        for failing, status in (("none", 0), ("http_clients", 1)):
            done = self.clients(FAILS=failing)
            self.assertEqual(done.returncode, status, done.stderr)
            said = self.logged()
            os.remove(self.log)
            if failing == "none":
                self.assertEqual(said.pop(0), INSTALLS)
            self.assertRegex(said.pop(0), "^npm install .* basic-ftp$")
            files = [line.split()[-1] for line in said[::2]]
            self.assertEqual(set(said[1::2]), {self.path("build/release/servers/weir") + " 111"})
            for name in ("ftp_real_clients", "ftp_listings", "http_clients", "http_browser"):
                self.assertIn(f"tests/e2e/{name}.py", files)
            self.assertIn("tests/suite/browser_test.py", files)
            for file in files:
                self.assertTrue(os.path.exists(os.path.join(TOP, file)), file)

    # A client that cannot be installed ends it before any test.
    def test_a_client_that_cannot_be_installed_ends_it(self):
        self.stand_in("id", "echo 0")
        self.stand_in("apt-get", "exit 0")
        done = self.clients()
        self.assertEqual(done.returncode, 1)
        self.assertIn("do: still missing after the installation: one two", done.stderr)
        self.write("new", "")
        self.stand_in("npm", "exit 1")
        done = self.source("cmd_build() { :; }; needed_clients=(); cmd_clients")
        self.assertEqual(done.returncode, 1)
        self.assertIn("do: npm could not install basic-ftp", done.stderr)
        self.assertEqual(self.logged(), [])

    # With TAP_NO_SKIPS a test that skips fails, and its reason is told; otherwise it does not.
    def test_a_skip_is_a_failure_where_it_is_told_to_be(self):
        self.write("skips.py", "import unittest\n@unittest.skip('not here')\n"
                   "class One(unittest.TestCase):\n    def test_it(self):\n        pass\n")
        tap = [sys.executable, os.path.join(TOP, "tests/tap.py"), self.path("skips.py")]
        for strict, status, line in (("", 0, "ok 1 - it # SKIP not here"),
                                     ("1", 1, "not ok 1 - it\n# skipped: not here")):
            done = subprocess.run(tap, capture_output=True, text=True, timeout=60, check=False,
                                  env={**os.environ, "TAP_NO_SKIPS": strict})
            self.assertEqual(done.returncode, status, done.stderr)
            self.assertEqual(done.stdout.partition("\n1..1")[0], line)


class Stalled(Sourced):
    """Tests that fail while a processor stands still are run again, and others are not."""

    # One test fails the first time, the other always.
    PROJECT = """project('some')
test('once', find_program('sh'), args: ['-c', 'test -e met || { : >met; exit 1; }'])
test('always, and more', find_program('false'), suite: 'unit')
"""
    OFTEN = [f"run again, a processor stood still: build/some: {name}" for name in
             ("some / once", "some:unit / always, and more", "some:unit / always, and more")]

    def setUp(self):
        super().setUp()
        self.use("meson", "ninja", "setarch", "nproc", "sh", "false")
        os.symlink(os.path.join(TOP, "tests"), self.path("tests"))
        self.write("meson.build", self.PROJECT)

    def after(self, stalls):
        """How often which was run again, and what failed, with these stalls on record."""
        self.write("build/stalls.log", stalls)
        result = self.source("meson setup build/some >&2; test_variant some >&2; "
                             "$python tests/summary.py build/some")
        lines = result.stdout.splitlines()
        return ([line for line in lines if "again" in line],
                [line for line in lines if "FAIL" in line], result.stderr)

    # What fails while a processor stands still has two more runs.
    def test_stalled_tests_run_again(self):
        again, failed, said = self.after("1.5 2.5\n5 1e11\n")
        self.assertEqual(again, self.OFTEN, said)
        self.assertEqual(failed, ["failed: build/some: some:unit / always, and more: FAIL"], said)

    # What fails at another time has failed.
    def test_others_have_failed(self):
        again, failed, said = self.after("1.5 2.5\n1e11 2e11\n")
        self.assertEqual(again, [], said)
        self.assertEqual(failed, ["failed: build/some: some / once: FAIL",
                                  "failed: build/some: some:unit / always, and more: FAIL"], said)

    # The watch writes a stall down when it is over, and ends with who started it.
    def test_the_watch(self):
        path = self.path("stalls.log")
        # Its threads may begin after the first stop.
        script = (f"/usr/bin/python3 {TOP}/tests/stalls.py watch {path} & echo $!; "
                  f"until [ -s {path} ]; do kill -STOP $!; sleep 1.5; kill -CONT $!; sleep 0.5; "
                  "done; "
                  "read -r _")
        begin = time.time()
        with subprocess.Popen(["bash", "-c", script], stdin=subprocess.PIPE, bufsize=0,
                              stdout=subprocess.PIPE) as shell:
            watch = os.pidfd_open(int(shell.stdout.readline()))
            self.addCleanup(os.close, watch)
            self.wait_for(lambda: os.path.exists(path) and os.path.getsize(path))
            with open(path, encoding="utf-8") as lines:
                for line in lines:
                    first, last = map(float, line.split())
                    self.assertLess(begin, first)
                    self.assertLess(first + 1, last)
                    self.assertLess(last, time.time() + 0.001)
            shell.stdin.write(b"\n")
        self.assertTrue(select.select([watch], [], [], 20)[0], "it outlives its parent")

    def wait_for(self, condition):
        end = time.monotonic() + 20
        while not condition():
            self.assertLess(time.monotonic(), end)
            time.sleep(0.01)


class Running(Sourced):
    # Whatever set-up and build print, standard output is the program's alone.
    def test_standard_output_is_the_programs_alone(self):
        os.makedirs(self.path("build/release"))
        os.symlink(shutil.which("echo"), self.path("build/release/program"))
        done = self.source("cmd_build() { echo noise; }; run program output")
        self.assertEqual((done.returncode, done.stdout), (0, "output\n"), done.stderr)


if __name__ == "__main__":
    unittest.main()
