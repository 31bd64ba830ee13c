"""The container profile is the runtime's own with three more calls, and never an open door."""

import json
import os
import subprocess
import sys
import unittest

TOP = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..")
PROGRAM = os.path.join(TOP, "share", "container_profile.py")
PODMAN = "/usr/share/containers/seccomp.json"
CALLS = {"io_uring_setup", "io_uring_enter", "io_uring_register"}

SMALL = {
    "defaultAction": "SCMP_ACT_ERRNO",
    "defaultErrnoRet": 1,
    "archMap": [{"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86"]}],
    "syscalls": [
        {"names": ["read", "write"], "action": "SCMP_ACT_ALLOW"},
        {"names": ["personality"], "action": "SCMP_ACT_ALLOW",
         "args": [{"index": 0, "value": 8, "op": "SCMP_CMP_EQ"}]},
        {"names": ["bpf", "io_uring_setup"], "action": "SCMP_ACT_ALLOW",
         "includes": {"caps": ["CAP_SYS_ADMIN"]}},
        {"names": ["io_uring_enter", "kexec_load"], "action": "SCMP_ACT_ERRNO"},
    ],
}


def run(profile):
    return subprocess.run([sys.executable, PROGRAM], input=json.dumps(profile), text=True,
                          capture_output=True, timeout=20, check=False)


def allowed(profile):
    """The names that are allowed to everybody."""
    names = set()
    for rule in profile["syscalls"]:
        if rule["action"] == "SCMP_ACT_ALLOW" and not any(
                rule.get(key) for key in ("args", "includes", "excludes")):
            names.update(rule["names"])
    return names


class ProfileTest(unittest.TestCase):
    """share/container_profile.py."""

    def assert_adds_three(self, profile):
        result = run(profile)
        self.assertEqual(result.returncode, 0, result.stderr)
        made = json.loads(result.stdout)
        self.assertEqual(allowed(made) - allowed(profile), CALLS - allowed(profile))
        self.assertLessEqual(CALLS, allowed(made))
        self.assertEqual(allowed(profile) - allowed(made), set())
        for key in set(profile) - {"syscalls"}:
            self.assertEqual(made[key], profile[key])
        self.assertEqual(json.loads(run(made).stdout), made, "a second time changes nothing")
        return made

    # Exactly three calls more are allowed, and everything else stays as it was.
    def test_three_calls_are_added(self):
        made = self.assert_adds_three(SMALL)
        self.assertEqual(made["syscalls"][:3], SMALL["syscalls"][:3])
        self.assertEqual(made["syscalls"][3]["names"], ["kexec_load"])

    # The same holds for the profile of an installed runtime.
    def test_three_calls_are_added_to_an_installed_default(self):
        if not os.path.exists(PODMAN):
            self.skipTest(f"no {PODMAN} here")
        with open(PODMAN, encoding="utf-8") as file:
            self.assert_adds_three(json.load(file))

    # A profile that allows what it does not name, and what is no profile, are refused.
    def test_open_profiles_are_refused(self):
        for action in ("SCMP_ACT_ALLOW", "SCMP_ACT_LOG"):
            result = run({**SMALL, "defaultAction": action})
            self.assertEqual((result.returncode, result.stdout), (1, ""))
            self.assertIn("allows what it does not name", result.stderr)
        for profile in ([], {"defaultAction": "SCMP_ACT_ERRNO"}, "unconfined"):
            result = run(profile)
            self.assertEqual((result.returncode, result.stdout), (1, ""))
            self.assertIn("no seccomp profile", result.stderr)

    # No document and no message of ours advises to run without a filter.
    def test_unconfined_is_never_advised(self):
        for folder in ("core", "servers", "docs", "share", "bench"):
            for at, _, names in os.walk(os.path.join(TOP, folder)):
                for name in names:
                    if not name.endswith((".c", ".h", ".md", ".1", ".py", ".toml")):
                        continue
                    with open(os.path.join(at, name), encoding="utf-8") as file:
                        self.assertNotIn("seccomp=" + "unconfined", file.read(), name)


if __name__ == "__main__":
    unittest.main()
