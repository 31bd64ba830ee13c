"""Prints a report: as text for a terminal, or as Markdown."""

from . import looks
from .summary import EXTRA, METRICS, summarize
from .verdict import INCONCLUSIVE, INVALID, MORE_IS_BETTER, VERDICTS

LABEL_WIDTH = 14
COLUMN_WIDTH = 13
ROWS_TOLD_MAX = 4  # of one kind of warning; more are added up

HEADINGS = {name: heading for name, heading, _ in METRICS + EXTRA}
KINDS = {name: kind for name, _, kind in METRICS + EXTRA}

NOTES = (
    "ops/s: operations per second, each a verified echo. server/op and machine/op: CPU time per\n"
    "operation, of the server's processes and of the whole machine with the client. calls/op: the\n"
    "server's own count of io_uring_enter or system calls. switches/op: its context switches.\n"
    "memory: its proportional set size.",
    "p50 and p99: in closed cells the service time, which says nothing about users who do not\n"
    "wait for each other; in open cells the response time from the moment a request was meant to\n"
    "leave. Printed only with at least 100 samples beyond the percentile. A mark ! means: see the\n"
    "warnings.",
)


def kind_of(metric):
    return KINDS[metric]


def three_digits(value):
    if value == 0:
        return "0"
    if value < 0.001:
        return f"{value:.0e}"
    for limit, digits in ((0.1, 4), (1, 3), (10, 2), (100, 1)):
        if value < limit * 0.9995:  # what rounds up to it has a digit more before the point
            return f"{value:.{digits}f}"
    return f"{value:.0f}"


def show(value, kind):
    """A value with its unit, three digits."""
    if kind == "number":
        return three_digits(value)
    scales = {"rate": ((1e6, "M"), (1e3, "k"), (1, "")),
              "time": ((1e9, " s"), (1e6, " ms"), (1e3, " us"), (1, " ns")),
              "size": ((1 << 20, " MiB"), (1 << 10, " KiB"), (1, " B"))}[kind]
    for factor, unit in scales:
        if value >= factor * 0.9995:
            return three_digits(value / factor) + unit
    return three_digits(value) + scales[-1][1]


def row_of(label, values):
    # A wide interval shifts what follows it, and never touches it.
    columns = "".join((" " + value).rjust(COLUMN_WIDTH) for value in values)
    return (label.ljust(LABEL_WIDTH) + columns).rstrip()


def text_of_row(row):
    """The lines of one variant: medians, and for all but the base ratios and their intervals."""
    metrics = [row["metrics"].get(name) for name, _, _ in METRICS]
    medians = [show(m["median"], kind) if m else "-" for m, (_, _, kind) in zip(metrics, METRICS)]
    if not row["used"]:
        medians = ["no usable trial"]
    mark = "!" if any(w["severity"] != "note" for w in row["warnings"]) else ""
    yield row_of(f"  {row['variant']}{mark}", medians)
    for name, text, kind in EXTRA:
        if name in row["metrics"]:
            yield f"    {text}: {show(row['metrics'][name]['median'], kind)}"
    if not any(m and "ratio" in m for m in metrics) and not row["verdicts"]:
        return
    yield row_of("    ratio", [f"{m['ratio']:.2f}" if m and "ratio" in m else "" for m in metrics])
    if any(m and "low" in m for m in metrics):
        yield row_of("    interval", [f"{m['low']:.2f}-{m['high']:.2f}" if m and "low" in m else ""
                                      for m in metrics])
    if row["verdicts"]:
        yield row_of("    verdict", [row["verdicts"].get(name, {}).get("verdict", "")
                                     for name, _, _ in METRICS])


def levels(rows):
    """The confidence levels of the intervals in these rows, in percent."""
    found = {m["level"] for row in rows for m in row["metrics"].values() if "level" in m}
    return [f"{100 * level:.4g} %" for level in sorted(found)]


def sentence_about_intervals(rows, base):
    found = levels(rows)
    if not found:
        return "One block gives no interval."
    text = (f"Ratios are to {base}, from pairs within blocks (Hodges-Lehmann); the intervals are "
            f"the exact\nsigned-rank ones at {' and '.join(found)}")
    if any(float(level.split()[0]) < 95 for level in found):
        text += ": the whole range of the pairs, because fewer\nthan six blocks cannot reach 95 %"
    return text + "."


def warnings_of(rows, severities):
    """A line per row and guard; where a guard spoke in many rows, one line for all of them."""
    told = {}
    for row in rows:
        for warning in row["warnings"]:
            if warning["severity"] in severities:
                told.setdefault(warning["guard"], []).append((row, warning))
    for found in told.values():
        if len(found) > ROWS_TOLD_MAX:
            trials = sum(warning["trials"] for _, warning in found)
            row, warning = found[0]
            yield (f"in {trials} trials of {len(found)} rows, first {row['cell']} "
                   f"{row['variant']}: {warning['text']}")
            continue
        for row, warning in found:
            yield (f"{row['cell']} {row['variant']}: {warning['text']} "
                   f"({warning['trials']} of {warning['of']} trials)")


def counts_of(rows):
    """How many comparisons of each endpoint ended how."""
    for endpoint in MORE_IS_BETTER:
        found = [row["verdicts"][endpoint]["verdict"] for row in rows
                 if endpoint in row["verdicts"]]
        if found:
            yield f"{HEADINGS[endpoint]}: " + ", ".join(
                f"{found.count(verdict)} {verdict}" for verdict in VERDICTS if verdict in found)


def reasons_of(rows):
    """Why verdicts are missing, one line per row and endpoint; the decided ones speak for
    themselves."""
    for row in rows:
        for endpoint, found in row["verdicts"].items():
            if found["verdict"] in (INCONCLUSIVE, INVALID):
                yield (f"{row['cell']} {row['variant']} {HEADINGS[endpoint]}: "
                       f"{found['verdict']}: {found['reason']}")


VERDICT_NOTE = (
    "FASTER and SLOWER: the exact sign-flip test, adjusted by Holm over all rows of the column. "
    "A lower\ncost counts as faster. EQUIVALENT: the interval lies within the margin, 2 % or the "
    "calibrated noise\nfloor. INCONCLUSIVE: this run cannot tell. INVALID: a guard says that the "
    "number means something\nelse.")


def left_out(report):
    """What was not run, or not as the scenario says, and why."""
    return [*(f"{name}: not run: {why}" for name, why in report["skipped"].items()),
            *(f"{name}: not by turns: {why}"
              for name, why in report.get("by_trials", {}).items()),
            *(f"rates are not held against the load's ceiling: {why}"
              for why in report.get("no_ceiling", []))]


def head_of(report):
    environment = report["environment"]
    lines = [f"weir-bench {report['scenario']['name']}, {report['started']}, "
             f"seed {report['seed']}, {report['blocks_done']} of "
             f"{report['scenario']['blocks']} blocks",
             f"{environment['cpu_model']}, {environment['cpus']} CPUs, "
             f"Linux {environment['kernel']}; server on CPU {report['server_cpus']}, "
             f"client on CPU {report['client_cpus']}"]
    if not report["complete"]:
        lines.append(f"Incomplete: {report.get('ended_by') or 'the run did not end'}.")
    if told := looks.sentence(report):
        lines.append(told)
    if ceilings := report.get("ceilings"):
        lines.append("The load's ceiling: " + ", ".join(
            f"{cell} {show(rate, 'rate')}/s" for cell, rate in ceilings.items()) + ".")
    return lines


def as_text(report):
    rows = summarize(report)
    lines = [*head_of(report), "", row_of("", [heading for _, heading, _ in METRICS])]
    titles = {row["cell"]: row["title"] for row in rows}
    for cell, title in titles.items():
        lines += ["", f"{cell}: {title}"]
        for row in rows:
            if row["cell"] == cell:
                lines += text_of_row(row)
    lines += ["", sentence_about_intervals(rows, report["base"]), *NOTES]
    if counts := list(counts_of(rows)):
        lines += [VERDICT_NOTE, "", "Verdicts:", *(f"  {line}" for line in counts),
                  *(f"  {line}" for line in reasons_of(rows))]
    lines += [f"CPU of the machine from {source}." for source in sources(report)]
    for heading, severities in (("Warnings", ("invalid", "warning")), ("Notes", ("note",))):
        found = list(warnings_of(rows, severities))
        if severities[0] == "invalid":
            found += left_out(report)
        if found:
            lines += ["", f"{heading}:", *(f"  {line}" for line in found)]
    return "\n".join(lines) + "\n"


def sources(report):
    return sorted({t["cpu"]["machine_source"] for t in report["trials"] if "cpu" in t})


def as_markdown(report):
    rows = summarize(report)
    lines = [*(line + "  " for line in head_of(report)), ""]
    headings = ["cell", "variant", *(heading for _, heading, _ in METRICS)]
    lines += ["| " + " | ".join(headings) + " |", "|---|---" + "|---:" * len(METRICS) + "|"]
    for row in rows:
        cells = []
        for name, _, kind in METRICS:
            metric = row["metrics"].get(name)
            text = show(metric["median"], kind) if metric else "-"
            if metric and "ratio" in metric:
                text += f"<br>{metric['ratio']:.2f}"
                if "low" in metric:
                    text += f" ({metric['low']:.2f}-{metric['high']:.2f})"
            if name in row["verdicts"]:
                text += f"<br>{row['verdicts'][name]['verdict']}"
            cells.append(text)
        lines.append("| " + " | ".join([row["title"], row["variant"], *cells]) + " |")
    lines += ["", sentence_about_intervals(rows, report["base"]), "", "\n\n".join(NOTES)]
    if counts := list(counts_of(rows)):
        lines += ["", VERDICT_NOTE, "", *(f"- {line}" for line in (*counts, *reasons_of(rows)))]
    found = [*warnings_of(rows, ("invalid", "warning", "note")),
             *left_out(report)]
    if found:
        lines += ["", *(f"- {line}" for line in found)]
    # Two blanks at a line's end would be a break; in the file they would only be noise.
    return "\n".join(line.rstrip() for line in lines) + "\n"
