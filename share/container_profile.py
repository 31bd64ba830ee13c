#!/usr/bin/python3
"""Adds io_uring to a container runtime's own seccomp profile, and nothing else.

usage: container_profile.py < default.json > weir.json

The default profiles of container runtimes forbid io_uring. This program takes the profile that your
runtime uses (Podman: /usr/share/containers/seccomp.json; Docker: profiles/seccomp/default.json of
its source) and adds one rule that allows the three calls. Then:

  docker run --security-opt seccomp=weir.json ...
  podman run --security-opt seccomp=weir.json ...

A profile that allows everything is refused: a container without a filter is no answer.
"""

import json
import sys

CALLS = ("io_uring_enter", "io_uring_register", "io_uring_setup")
ALLOW = "SCMP_ACT_ALLOW"


def is_unconditional(rule):
    """Whether the rule holds for every argument, architecture and capability."""
    return not any(rule.get(key) for key in ("args", "includes", "excludes"))


def add_calls(profile):
    """Adds the calls that the profile does not yet allow. ValueError: it is no profile."""
    if not isinstance(profile, dict) or not isinstance(profile.get("syscalls"), list):
        raise ValueError("this is no seccomp profile: it has no list named syscalls")
    if profile.get("defaultAction") in (None, ALLOW, "SCMP_ACT_LOG"):
        raise ValueError("this profile allows what it does not name: take the runtime's default")
    allowed = set()
    for rule in profile["syscalls"]:
        if rule.get("action") == ALLOW and is_unconditional(rule):
            allowed.update(rule.get("names", ()))
    missing = [name for name in CALLS if name not in allowed]
    # A rule that refuses one of them would contradict the new one.
    for rule in profile["syscalls"]:
        if rule.get("action") != ALLOW:
            rule["names"] = [name for name in rule.get("names", ()) if name not in missing]
    profile["syscalls"] = [rule for rule in profile["syscalls"] if rule.get("names")]
    if missing:
        profile["syscalls"].append({"names": missing, "action": ALLOW})
    return profile


def main():
    try:
        profile = add_calls(json.load(sys.stdin))
    except ValueError as error:
        print(f"container_profile.py: {error}", file=sys.stderr)
        return 1
    json.dump(profile, sys.stdout, indent=2)
    print()
    return 0


if __name__ == "__main__":
    sys.exit(main())
