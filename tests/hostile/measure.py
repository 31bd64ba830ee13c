"""The hostile scenes in full size, with figures.

usage: measure.py [--engine NAME]... [--scene NAME]... [--json FILE]
       [--soak-seconds S] [--small | --sanitized | --prove]

Plays each scene with uring and epoll, and prints a table (Markdown) on standard output. With
--json, results are added to those that the file already has, so that scenes can be played apart.
What is missed is said, and makes the exit status 1. --small plays the size of the tests, and
--sanitized that of their sanitizers, without limits on memory: for a server that was built so
(docs/testing.md). --prove plays that with servers that have a defect (prove.py), and prints what
the scenes say then.
"""

import argparse
import dataclasses
import json
import os
import platform
import subprocess
import sys
import time

HERE = os.path.dirname(os.path.abspath(__file__))
sys.path[:0] = [HERE, os.path.join(HERE, "..", "e2e")]

import prove  # pylint: disable=wrong-import-position
import scenes_end  # pylint: disable=wrong-import-position
import scenes_limits  # pylint: disable=wrong-import-position
import scenes_load  # pylint: disable=wrong-import-position
import scenes_memory  # pylint: disable=wrong-import-position
import scenes_soak  # pylint: disable=wrong-import-position
from stage import CI, FULL, SANITIZED, Result, Stage  # pylint: disable=wrong-import-position

SCENES = [*scenes_load.SCENES, *scenes_memory.SCENES, *scenes_limits.SCENES,
          *scenes_limits.URING_SCENES, *scenes_memory.RELEASE_SCENES, *scenes_end.SCENES,
          *scenes_soak.SCENES]


def play(scene, engine, size, weir=None):
    """The result of one scene; one that could not be played to its end has failed."""
    begin = time.monotonic()
    try:
        with Stage(engine, size, weir) as stage:
            result = scene(stage)
    except (AssertionError, OSError) as error:
        result = Result(scene.__name__.replace("_", " "), engine)
        result.need_equal("played to the end", str(error) or type(error).__name__, "")
    result.figure("scene took, s", time.monotonic() - begin)
    return result


def row(result):
    """A result as a row of the table."""
    figures = [f"{name} {value:g}" if isinstance(value, float) else f"{name} {value}"
               for name, value in result["figures"].items()
               if name not in ("slices", "scene took, s")]
    missed = [f"{need['text']}: {need['found']}, asked for {need['limit']}"
              for need in result["needs"] if not need["met"]]
    verdict = "; ".join(dict.fromkeys(missed)) or "met"
    return f"| {result['scene']} | {result['engine']} | {'; '.join(figures)} | {verdict} |"


def table(results):
    return "\n".join(["| scene | engine | figures | verdict |", "|---|---|---|---|",
                      *map(row, results)])


def load(path):
    if path and os.path.exists(path):
        with open(path, encoding="utf-8") as file:
            return json.load(file)["results"]
    return []


def commit():
    """That of the sources, marked if they were changed since, or an empty text without git."""
    command = ["git", "-C", HERE, "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        return subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                              text=True, check=False).stdout.strip()
    except OSError:
        return ""


def store(path, results):
    machine = {"kernel": platform.release(), "processors": os.cpu_count(),
               "date": time.strftime("%Y-%m-%d")}
    with open(path + ".new", "w", encoding="utf-8") as file:
        json.dump({"schema": "weir-hostile/1", "machine": machine, "results": results}, file,
                  indent=1)
    os.rename(path + ".new", path)


def prove_scenes(options):
    scenes = {scene.__name__: scene for scene in SCENES}

    def play_small(name, engine, weir):
        print(f"playing {name} with {weir or 'a sound server'}, {engine}", file=sys.stderr)
        return play(scenes[name], engine, CI, weir)

    return prove.prove_all(play_small, options.scene, options.engine)


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--engine", action="append", choices=["uring", "epoll", "blocking"])
    parser.add_argument("--scene", action="append", choices=[s.__name__ for s in SCENES])
    parser.add_argument("--json")
    kind = parser.add_mutually_exclusive_group()
    kind.add_argument("--small", action="store_true")
    kind.add_argument("--sanitized", action="store_true")
    kind.add_argument("--prove", action="store_true")
    parser.add_argument("--soak-seconds", type=float, default=FULL.soak_s)
    options = parser.parse_args()
    if options.prove:
        return 1 if prove_scenes(options) else 0
    results = load(options.json)
    size = dataclasses.replace(FULL, soak_s=options.soak_seconds)
    if options.small or options.sanitized:
        size = CI if options.small else SANITIZED
    missed, built_from = 0, commit()
    for scene in SCENES:
        if options.scene and scene.__name__ not in options.scene:
            continue
        if size.sanitized and scene in scenes_memory.RELEASE_SCENES:
            continue
        for engine in options.engine or ["uring", "epoll"]:
            if scene in scenes_limits.URING_SCENES and engine != "uring":
                continue
            print(f"playing {scene.__name__} with {engine}", file=sys.stderr)
            result = vars(play(scene, engine, size))
            result |= {"commit": built_from, "size": size.name}
            missed += not all(need["met"] for need in result["needs"])
            results = [r for r in results
                       if (r["scene"], r["engine"]) != (result["scene"], result["engine"])]
            results.append(result)
            if options.json:
                store(options.json, results)
    print(table(results))
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
