"""The command line of weir-bench."""

import argparse
import glob
import json
import os
import shlex
import signal
import sys

from . import (Problem, calibrate, capacity, compare, doctor, explain, journal, ladder, page,
               replay, sheet, spread, sweep, table)
from .load import make_load, words_of
from .scenario import WEIR_SERVERS, cell_keys, from_report, load_file, select
from .session import Interrupted, Pace, Session, find_program

HERE = os.path.dirname(os.path.realpath(__file__))
# The same way in the source tree and where `meson install` puts them.
SCENARIO_FOLDER = os.path.normpath(os.path.join(HERE, "../../scenarios"))

PROGRAMS = ("weir", "weir-load", "weir-rungs")

DESCRIPTION = "Compares servers and engines on this machine, in randomised blocks of short trials."


def make_parser():
    parser = argparse.ArgumentParser(prog="weir-bench", description=DESCRIPTION)
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    quick = commands.add_parser("quick", help="compare the engines in under five minutes")
    add_run_options(quick)
    run = commands.add_parser("run", help="run the cells of a scenario")
    run.add_argument("scenario", nargs="?", metavar="SCENARIO",
                     help="a TOML file, or a name that list prints")
    run.add_argument("--resume", metavar="FILE",
                     help="go on with the run whose --json FILE was interrupted")
    add_run_options(run)
    for name, text in (("doctor", "look for what would spoil a run, with the fix"),
                       ("list", "list scenarios, or the cells of one")):
        command = commands.add_parser(name, help=text)
        if name == "list":
            command.add_argument("scenario", nargs="?", metavar="SCENARIO")
        else:
            add_build_option(command)
            command.add_argument("--json", action="store_true", help="as JSON")
    add_readers(commands)
    add_studies(commands)
    calibrate_ = commands.add_parser(
        "calibrate", help="measure the noise floor and the load's ceiling in each cell")
    calibrate_.add_argument("scenario", nargs="?", default="quick", metavar="SCENARIO")
    add_run_options(calibrate_)
    return parser


def add_studies(commands):
    """The commands that make a run of their own of a scenario's cells."""
    for name, default, text in (
            ("sweep", "quick", "one cell at many sizes, connections or rates"),
            ("ladder", "core", "what each feature of io_uring and epoll buys"),
            ("capacity", "quick", "the highest rate that keeps a latency objective"),
            ("replay", "replay", "published results: does this machine agree?"),
            ("explain", "core", "profile a cell and name what limits it")):
        study = commands.add_parser(name, help=text)
        if name == "explain":
            study.add_argument("cell", metavar="CELL")
        study.add_argument("--scenario", default=default, metavar="NAME",
                           help=f"whose cells, {default} by default")
        if name == "sweep":
            study.add_argument("--var", required=True, metavar="NAME=FROM:TO",
                               help="size=64:1M, connections=1,10,100, rate=1000:64000:2 ...")
        if name == "capacity":
            study.add_argument("--slo", default="p99=1ms", metavar="p99=TIME")
        add_run_options(study)


def add_readers(commands):
    """The commands that only read what runs wrote."""
    report = commands.add_parser("report", help="print the table of a run again, or as a page")
    report.add_argument("files", nargs="+", metavar="FILE.json")
    add_formats(report)
    compare_ = commands.add_parser("compare", help="is the second of two runs slower?")
    compare_.add_argument("files", nargs=2, metavar="FILE.json")
    compare_.add_argument("--gate", action="store_true",
                          help="exit 1 for a regression, 2 where there is no answer")
    compare_.add_argument("--json", action="store_true", help="as JSON")


def add_formats(parser):
    parser.add_argument("--markdown", action="store_true", help="print the table as Markdown")
    parser.add_argument("--csv", action="store_true", help="print it as CSV")
    parser.add_argument("--html", metavar="FILE", help="write one page with pictures there")


def add_build_option(parser):
    parser.add_argument("--build", metavar="DIR", help="where weir and weir-load were built")


def add_run_options(parser):
    add_build_option(parser)
    add = parser.add_argument
    add("--blocks", type=int, metavar="N", help="how often every variant runs in every cell")
    add("--stop-at-width", type=float, metavar="PERCENT",
        help="a cell ends before that when the intervals of its costs are no wider")
    add("--blocks-min", type=int, metavar="N", help="blocks before the first look at them")
    add("--rounds", type=int, metavar="N", help="and how often in each block, by turns")
    add("--seconds", type=float, metavar="S",
        help="measured per trial; a --budget then leaves out blocks")
    add("--warmup", type=float, metavar="S", help="before it, per trial")
    add("--budget", type=seconds, metavar="S",
        help="for the whole run, or what is left of it; trials shrink to fit; 0: no limit")
    add("--cells", metavar="LIST", help="only these, * is a wildcard: echo-64-*,churn")
    add("--engines", metavar="LIST", help="only these variants: epoll,uring,blocking")
    add("--variant", action="append", default=[], metavar="NAME=COMMAND",
        help="one more server; {port} {address} {host} {stats} {weir} {size} {root} {file} "
             "{folder} {peers} {cpu} are replaced; a COMMAND that begins with - is options for "
             "weir's server")
    add("--base", metavar="NAME", help="the variant that ratios are to")
    add("--load", metavar="COMMAND", help="another load generator; {host} {port} {address} "
        "{target} {connections} {depth} {size} {path} {operation} {duration} {warmup} {rate} "
        "{churn} {idle} {verify} {seed} {threads} {cpu} are replaced")
    add("--load-parse", action="append", default=[], metavar="NAME=EXPRESSION",
        help="how to find ops_per_s, ops, errors, p50_us, p99_us ... in its output")
    add("--load-turns", action="store_true",
        help="it may be stopped between turns, and prints at SIGINT how many operations it did")
    add("--load-host", action="append", metavar="HOST",
        help="run weir-load there, over ssh; repeat it to share the load; needs --server-host")
    add("--server-host", metavar="ADDRESS", help="what servers listen on, 127.0.0.1 by default")
    add("--load-program", default="weir-load", metavar="PATH", help="of weir-load on these hosts")
    add("--ssh", metavar="COMMAND", help="how to reach them, 'ssh -o BatchMode=yes' by default")
    add("--server-cpu", metavar="LIST", help="the server's CPUs, the first by default")
    add("--client-cpu", metavar="LIST", help="the client's CPUs, the second by default")
    add("--seed", type=int, metavar="N", help="repeats an order of trials")
    add("--json", metavar="FILE", help="keep everything there")
    add("--skip-conformance", action="store_true",
        help="do not compare every byte once before the run")
    add("--rates", metavar="FILE", help="offer what an earlier run did, so that both compare")
    add("--calibration", metavar="FILE", help="what `calibrate --json FILE` found on this machine")
    add_formats(parser)
    add("--quiet", action="store_true", help="no progress")
    add_cell_options(parser)


def add_cell_options(parser):
    """Every key of a cell, for all cells that are run."""
    group = parser.add_argument_group(
        "keys of a cell", "as in a scenario's file; they change every cell that is run")
    for key, kind in cell_keys():
        choice = {"type": yes_or_no, "metavar": "yes|no"} if kind is bool else \
            {"type": kind, "metavar": "N" if kind in (int, float) else "TEXT"}
        group.add_argument("--" + key.replace("_", "-"), dest=f"cell_{key}", **choice)
    group = parser.add_argument_group("keys of the scenario")
    group.add_argument("--server", choices=WEIR_SERVERS, help="which of weir's is measured")
    group.add_argument("--endpoints", metavar="LIST", help="that verdicts are given on")
    group.add_argument("--ceiling", type=yes_or_no, metavar="yes|no",
                       help="measure the load's before the run, without --calibration")
    group.add_argument("--root-file", action="append", metavar="NAME=BYTES",
                       help="one more file under the server's root")


def yes_or_no(text):
    if text not in ("yes", "no"):
        raise argparse.ArgumentTypeError("wants yes or no")
    return text == "yes"


def seconds(text):
    value = float(text)
    if not value >= 0:
        raise argparse.ArgumentTypeError("must not be negative")
    return value


def find_scenario(name):
    if os.path.sep in name or name.endswith(".toml"):
        return name
    path = os.path.join(SCENARIO_FOLDER, name + ".toml")
    if os.path.exists(path):
        return path
    raise Problem(f"no scenario '{name}': `weir-bench list` prints those that are there")


def load_scenario(options):
    if options.scenario is None:
        raise Problem("which SCENARIO? `weir-bench list` prints those that are there")
    scenario = load_file(find_scenario(options.scenario), options.server)
    if options.seconds is not None and options.budget is None:
        options.budget = 0
    select(scenario, options)
    for note in scenario.notes:
        print(f"weir-bench: {note}", file=sys.stderr)
    return scenario


def make_session(scenario, options, kind=Session):
    programs = {name: find_program(name, options.build) for name in PROGRAMS}
    needs_weir = any("{weir}" in variant.command for variant in scenario.variants)
    for name, needed in (("weir", needs_weir),
                         ("weir-load", not options.load and not options.load_host)):
        if needed and programs[name] is None:
            raise Problem(f"{name} was not found: build it with ./do build, "
                          "or say where it is with --build")
    load = make_load(options, programs["weir-load"])
    session = kind(scenario, programs, load, options)
    if options.calibration:
        calibrate.apply(session.report, journal.read(options.calibration))
    if options.rates:
        session.take_rates(options.rates, journal.read(options.rates))
    return session


def command_run(options):
    if options.resume:
        return study(options, resumed(options))
    return finish_run(*make_session(load_scenario(options), options).run(), options)


# What may be said of a run that goes on. All else is as it began.
SAID_ANEW = {"command", "resume", "budget", "build", "load", "load_parse", "load_turns",
             "load_host", "load_program", "ssh", "server_host", "skip_conformance", "markdown",
             "csv", "html", "quiet"}


def refuse_changes(options):
    """What --resume would ignore otherwise."""
    usual = vars(make_parser().parse_args(["run"]))
    given = [name for name in usual if name not in SAID_ANEW
             and getattr(options, name) != usual[name]]
    if given:
        words = ["SCENARIO" if name == "scenario" else
                 "--" + name.removeprefix("cell_").replace("_", "-") for name in given]
        raise Problem("--resume takes everything from the FILE, but for --budget: no "
                      + ", ".join(words))


def resumed(options):
    """The session of an interrupted run, as far as it came."""
    refuse_changes(options)
    path = options.resume.removesuffix(".part")
    # An orderly end by a signal leaves FILE itself, a crash only FILE.part.
    begun = journal.read(path + ".part" if os.path.exists(path + ".part") else path)
    if begun["complete"]:
        raise Problem(f"{path}: this run is complete")
    options.json, options.seed = path, begun["seed"]
    options.server_cpu, options.client_cpu = begun["server_cpus"], begun["client_cpus"]
    kind = capacity.CapacitySession if begun.get("study") == "capacity" else Session
    session = make_session(from_report(begun), options, kind)
    if session.load.name != begun["load"]:
        raise Problem(f"the run began with the load {begun['load']}: give --load again")
    # Older runs did not keep it.
    if session.load.given != begun.get("load_given", session.load.given):
        raise Problem("the run began with another load, or other rules: "
                      + words_of(begun["load_given"]))
    session.go_on(begun)
    if options.budget is not None:
        session.renew_budget(options.budget)
    return session


def finish_run(report, ended_by, saved, options):
    options.ended_by = ended_by
    if report["trials"]:
        print_report(report, options)
    if "ended_by" in report and not report["complete"]:
        print(f"weir-bench: {report['ended_by']}: {len(report['trials'])} trials were measured",
              file=sys.stderr)
    if ended_by:
        return 128 + ended_by
    failed = any(trial["status"] != "ok" for trial in report["trials"])
    return 1 if failed or not saved or not report["trials"] else 0


def print_report(report, options):
    if options.html:
        write_page([(report["scenario"]["name"], report)], options.html)
    form = table.as_markdown if options.markdown else sheet.as_csv if options.csv else table.as_text
    sys.stdout.write(form(report))


def command_calibrate(options):
    scenario = load_scenario(options)
    told = len(scenario.notes)
    calibrate.prepare(scenario)
    for note in scenario.notes[told:]:
        print(f"weir-bench: {note}", file=sys.stderr)
    return study(options, make_session(scenario, options), "calibrate")


# The cell that a study takes where --cells names none.
STUDIED = "echo-64-c64"


# By what a report says that it is: what it tells below the table.
STUDIES = {
    "calibrate": calibrate.as_text, "sweep": sweep.as_text, "ladder": ladder.as_text,
    "replay": replay.as_text, "capacity": lambda report: f"\nObjective: {report['slo']}\n",
}


def study(options, session, name=None, **told):
    """Runs it; `told` is kept in its report. Without a name it goes on with what it was."""
    if name:
        session.report.update(told, study=name)
    name = session.report.get("study")
    if name == "calibrate":
        session.finish = calibrate.finish
    status = finish_run(*session.run(), options)
    if name and session.report["trials"] and not (options.csv or options.markdown):
        sys.stdout.write(STUDIES[name](session.report))
    return status


def studied_scenario(options):
    if options.cells is None and options.scenario in ("quick", "core"):
        options.cells = STUDIED
    return load_scenario(options)


def command_sweep(options):
    scenario = studied_scenario(options)
    told = sweep.spread(scenario, options.var)
    return study(options, make_session(scenario, options), "sweep", sweep=told)


def command_ladder(options):
    scenario = load_scenario(options)
    weir = find_program("weir", options.build)
    if weir is None:
        raise Problem("weir was not found: build it with ./do build, or say where with --build")
    told = ladder.prepare(scenario, weir, find_program("weir-rungs", options.build))
    return study(options, make_session(scenario, options), "ladder", ladder=told)


def command_capacity(options):
    scenario = studied_scenario(options)
    capacity.parse_objective(options.slo)
    scenario.endpoints = ["capacity_per_s"]
    scenario.budget, scenario.ceiling = 0.0, False
    session = make_session(scenario, options, capacity.CapacitySession)
    return study(options, session, "capacity", slo=options.slo)


def command_replay(options):
    scenario = load_scenario(options)
    replay.check(scenario)
    return study(options, make_session(scenario, options), "replay")


def command_explain(options):
    for name in ("json", "html", "csv", "markdown"):
        if getattr(options, name):
            raise Problem(f"explain keeps and compares nothing, so it has no --{name}: what it "
                          "prints is all")
    options.cells = options.cell
    status = 0
    session = make_session(load_scenario(options), options)
    with session.prepared():
        session.calibrate(Pace(session.scenario, 1, True))
        for cell, variants in session.plan:
            for variant in variants:
                found = explain.explain(session, cell, variant)
                sys.stdout.write(explain.as_text(found) + "\n")
                sys.stdout.flush()
                status = status if found["status"] == "ok" else 1
    return status


def command_compare(options):
    a, b = map(journal.read, options.files)
    problems, comparisons = compare.compare(a, b)
    if options.json:
        json.dump({"problems": problems, "comparisons": comparisons}, sys.stdout, indent=1)
        print()
    else:
        sys.stdout.write(compare.as_text(problems, comparisons, compare.no_reference(a, b)))
    return compare.gate(problems, comparisons) if options.gate else 0


def command_quick(options):
    options.scenario, options.resume = "quick", None
    return command_run(options)


def command_doctor(options):
    programs = {name: find_program(name, options.build) for name in PROGRAMS}
    rows = doctor.examine(programs)
    if options.json:
        json.dump([dict(zip(("check", "verdict", "text", "fix"), row)) for row in rows],
                  sys.stdout, indent=1)
        print()
    else:
        sys.stdout.write(doctor.as_text(rows))
    return 1 if any(row[1] == "fail" for row in rows) else 0


def command_list(options):
    if options.scenario:
        scenario = load_file(find_scenario(options.scenario))
        for cell in scenario.cells:
            names = ", ".join(variant.name for variant in scenario.variants_of(cell))
            print(f"{cell.name:<18} {cell.title()}  [{names}]")
        return 0
    for path in sorted(glob.glob(os.path.join(SCENARIO_FOLDER, "*.toml"))):
        scenario = load_file(path)
        print(f"{scenario.name:<10} {len(scenario.cells):>3} cells, {scenario.blocks} blocks: "
              f"{scenario.about}")
    return 0


def command_report(options):
    reports = [(os.path.basename(path), journal.read(path)) for path in options.files]
    if options.html:
        write_page(reports, options.html)
        return 0
    for _, report in reports:
        print_report(report, options)
    return 0


def write_page(reports, path):
    text = page.page(reports)
    try:
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise Problem(f"--html {path}: {error.strerror}") from None


COMMANDS = {"quick": command_quick, "run": command_run, "doctor": command_doctor,
            "list": command_list, "report": command_report, "calibrate": command_calibrate,
            "compare": command_compare, "sweep": command_sweep, "ladder": command_ladder,
            "capacity": command_capacity, "replay": command_replay, "explain": command_explain}


def on_signal(number, _):
    raise Interrupted(number)


def main(arguments):
    if arguments[:1] == ["spread"]:  # not for people: what --load-host runs
        return spread.main(arguments[1:])
    options = make_parser().parse_args(arguments)
    options.command_line = shlex.join(["weir-bench", *arguments])
    options.ended_by = 0
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, on_signal)
    try:
        status = COMMANDS[options.command](options)
        sys.stdout.flush()
        return status
    except Problem as problem:
        tell(problem)
        return 2
    except Interrupted as end:
        return 128 + end.args[0]
    except BrokenPipeError:
        # The reader of a table has seen enough.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        # A full disk, or a terminal that is gone: what was measured is in the JSON already.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        tell(error)
        return 128 + options.ended_by if options.ended_by else 1


def tell(problem):
    try:
        print(f"weir-bench: {problem}", file=sys.stderr, flush=True)
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())
