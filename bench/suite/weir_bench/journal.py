"""The JSON of a run.

Each trial is appended to FILE.part as it ends, so a crash loses none; at the end FILE is written
whole and FILE.part goes.
"""

import json
import os

from . import SCHEMA, Problem


class Journal:
    """Keeps a report in memory and, with a path, on disk."""

    def __init__(self, path, report, warn):
        self.path = path
        self.report = report
        self.warn = warn
        self.part = None
        if path:
            try:
                self.part = self.begin(path)
            except OSError as error:
                raise Problem(f"--json {path}: {error.strerror}") from None

    def begin(self, path):
        """Writes what is known already, anew: a run that goes on may have ended within a line."""
        # Not replaced if there is something special in its place, such as a device.
        special = os.path.exists(path + ".part") and not os.path.isfile(path + ".part")
        name = path + (".part" if special or not self.report["trials"] else ".part.new")
        self.part = open(name, "w", encoding="utf-8")
        self.write_line({key: value for key, value in self.report.items() if key != "trials"})
        for trial in self.report["trials"]:
            self.write_line({"trial": trial})
        if name.endswith(".new"):
            os.replace(name, path + ".part")
        return self.part

    def learned(self, *keys):
        """Keeps what became known after the beginning."""
        self.write_line({key: self.report[key] for key in keys})

    def add(self, trial):
        self.report["trials"].append(trial)
        self.write_line({"trial": trial})

    def add_together(self, trials):
        """What was measured by turns is kept as a whole, or not at all: half of it has no pairs."""
        self.report["trials"] += trials
        self.write_line({"trials": trials})

    def write_line(self, value):
        if self.part is None:
            return
        try:
            self.part.write(json.dumps(value) + "\n")
            self.part.flush()
        except OSError as error:
            # The measurement goes on: its table can still be printed.
            self.warn(f"{self.path}.part: {error.strerror}; later trials are not kept in it")
            self.part = None

    def finish(self):
        """Writes FILE. Returns whether that worked."""
        if not self.path:
            return True
        temporary = self.path + ".new"
        try:
            with open(temporary, "w", encoding="utf-8") as file:
                write_report(self.report, file)
            os.replace(temporary, self.path)
        except OSError as error:
            self.warn(f"--json {self.path}: {error.strerror}; the trials are in {self.path}.part")
            return False
        if self.part is not None:
            self.part.close()
        os.unlink(self.path + ".part")
        return True


def write_report(report, file):
    """One JSON object, with a line per key and per trial: histograms are long."""
    separator = "{\n"
    for key, value in report.items():
        if key == "trials":
            text = "[\n" + ",\n".join(map(json.dumps, value)) + "\n]"
        else:
            text = json.dumps(value)
        file.write(f"{separator}{json.dumps(key)}: {text}")
        separator = ",\n"
    file.write("\n}\n")


def read(path):
    """Reads a finished report, or what an interrupted run left in FILE.part."""
    try:
        with open(path, encoding="utf-8") as file:
            text = file.read()
    except (OSError, UnicodeDecodeError) as error:
        raise Problem(f"{path}: {error}") from None
    try:
        report = read_part(text) if path.endswith(".part") else json.loads(text)
        schema = report.get("schema")
    except (ValueError, AttributeError) as error:
        raise Problem(f"{path}: not a report of weir-bench: {error}") from None
    if schema != SCHEMA:
        raise Problem(f"{path}: schema {schema}, this weir-bench reads {SCHEMA}")
    return report


def read_part(text):
    lines = text.splitlines()
    report = {**json.loads(lines[0]), "trials": []} if lines else {}
    for line in lines[1:]:
        try:
            values = json.loads(line)
            report["trials"] += [values.pop("trial")] if "trial" in values else []
            report["trials"] += values.pop("trials", [])
            report.update(values)
        except ValueError:
            # The last line of a run that was killed while it wrote it.
            break
    return report
