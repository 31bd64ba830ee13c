"""One HTML page from one or more reports: it needs no network, no script and no other file."""

import json
import math
import os
from html import escape

from . import charts, compare, histogram
from .estimate import median
from .summary import METRICS, summarize
from .table import HEADINGS, KINDS, NOTES, VERDICT_NOTE, head_of, show, warnings_of
from .verdict import MORE_IS_BETTER

# Where the ticks of percentiles stand: each nine has the same width.
NINES = [-math.log10(1 - share) for share in (0.5, 0.9, 0.99, 0.999, 0.9999)]

HERE = os.path.dirname(os.path.realpath(__file__))


def page(reports):
    """`reports` are (name, report) pairs. The first is what others are compared with."""
    prepared = [(name, report, summarize(report)) for name, report in reports]
    title = "weir-bench: " + ", ".join(name for name, _, _ in prepared)
    body = [f"<h1>{escape(title)}</h1>"]
    if len(prepared) > 1:
        body.append("<nav><ul>" + "".join(f'<li><a href="#r{at}">{escape(name)}</a></li>'
                                          for at, (name, _, _) in enumerate(prepared))
                    + "</ul></nav>")
        body += [between(prepared[0], other) for other in prepared[1:]]
    body += [one_run(at, *run) for at, run in enumerate(prepared)]
    data = json.dumps([{"name": name, "table": rows} for name, _, rows in prepared])
    with open(os.path.join(HERE, "page.css"), encoding="utf-8") as file:
        style = file.read()
    return ('<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
            '<meta name="viewport" content="width=device-width, initial-scale=1">'
            f"<title>{escape(title)}</title>\n<style>\n{style}</style></head>\n<body><main>\n"
            + "\n".join(body) + '\n</main>\n<script type="application/json" id="weir-data">'
            + data.replace("<", "\\u003c") + "</script></body></html>\n")


def table(caption, headings, rows, kind=""):
    """Rows are lists of HTML; the first column names the row."""
    head = "".join(f'<th scope="col">{escape(heading)}</th>' for heading in headings)
    lines = "\n".join("<tr>" + f'<th scope="row">{row[0]}</th>'
                      + "".join(f"<td>{cell}</td>" for cell in row[1:]) + "</tr>" for row in rows)
    # A wide table scrolls by itself; the keyboard must be able to do that, too.
    return (f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(caption)}">'
            f'<table class="{kind}"><caption>{escape(caption)}</caption><thead><tr>{head}</tr>'
            f"</thead><tbody>\n{lines}\n</tbody></table></div>")


def badge(found):
    return (f'<span class="badge {found["verdict"].lower()}" title="{escape(found["reason"])}">'
            f"{found['verdict']}</span>")


def interval(found):
    return f" ({found['low']:.2f}&ndash;{found['high']:.2f})" if "low" in found else ""


def cell_of_table(row, name):
    metric = row["metrics"].get(name)
    parts = [show(metric["median"], KINDS[name])] if metric else ["&ndash;"]
    if metric and "ratio" in metric:
        parts.append(f'<span class="ratio">{metric["ratio"]:.2f}{interval(metric)}</span>')
    if name in row["verdicts"]:
        parts.append(badge(row["verdicts"][name]))
    return "<br>".join(parts)


def verdict_table(rows):
    metrics = [name for name in HEADINGS if any(name in row["metrics"] for row in rows)]
    lines = []
    for row in rows:
        guards = "".join(f'<span class="guard {w["severity"]}" title="{escape(w["text"])}">'
                         f"{escape(w['guard'])} {w['trials']}/{w['of']}</span> "
                         for w in row["warnings"])
        lines.append([f"{escape(row['cell'])}<br><small>{escape(row['title'])}</small>",
                      f"<b>{escape(row['variant'])}</b>",
                      *(cell_of_table(row, name) for name in metrics), guards])
    return table("Medians, ratios to the base with intervals, verdicts, and guards that spoke",
                 ["cell", "variant", *(HEADINGS[name] for name in metrics), "guards"], lines,
                 "verdicts")


def one_run(at, name, report, rows):
    parts = [f'<section id="r{at}"><h2>{escape(name)}</h2>',
             *(f"<p>{escape(line)}</p>" for line in head_of(report)), verdict_table(rows),
             f"<p>{escape(VERDICT_NOTE)}</p>", *(f"<p>{escape(note)}</p>" for note in NOTES)]
    told = [*warnings_of(rows, ("invalid", "warning", "note")),
            *(f"{cell}: not run: {why}" for cell, why in report["skipped"].items())]
    if told:
        parts.append("<h3>What the guards say</h3><ul>"
                     + "".join(f"<li>{escape(line)}</li>" for line in told) + "</ul>")
    parts += [f"<figure><figcaption>{escape(title)}</figcaption>{chart}</figure>"
              for title, chart in pictures(report, rows)]
    return "\n".join([*parts, environment_of(report), "</section>"])


def pictures(report, rows):
    """Yields (caption, SVG) of what this run has to show."""
    for endpoint in MORE_IS_BETTER:
        entries = [(f"{row['cell']} {row['variant']}", row["verdicts"][endpoint]) for row in rows
                   if "ratio" in row["verdicts"].get(endpoint, {})]
        if entries:
            word = "more" if MORE_IS_BETTER[endpoint] else "less"
            caption = f"{HEADINGS[endpoint]}: ratio to {report['base']} ({word} is better)"
            yield caption, charts.forest(caption, entries)
    yield from crossovers(report, rows)
    yield from costs(report)
    for cell in report["scenario"]["cells"]:
        yield from latencies(report, cell)
    yield from order_of_trials(report)


def names_of(report):
    return [variant["name"] for variant in report["scenario"]["variants"]]


def crossovers(report, rows):
    """A sweep's metrics against what was varied."""
    sweep = report.get("sweep")
    if not sweep:
        return
    for metric, heading, kind in METRICS:
        lines = {}
        for row in rows:
            value = row["metrics"].get(metric, {}).get("median")
            if value and row["cell"] in sweep["cells"]:
                lines.setdefault(row["variant"], []).append((sweep["cells"][row["cell"]], value))
        if lines and max(map(len, lines.values())) > 1:
            caption = f"{heading} against {sweep['var']}"
            yield caption, charts.curves(caption, lines, lambda v: f"{v:g}",
                                         lambda v, kind=kind: show(v, kind), sweep["var"],
                                         (True, True))


def costs(report):
    """The parts of the machine's time per operation."""
    entries = []
    for cell in report["scenario"]["cells"]:
        for name in names_of(report):
            parts = [parts_of(t) for t in report["trials"] if (t["cell"], t["variant"]) ==
                     (cell["name"], name) and t["status"] == "ok" and "spent" in t]
            if parts := [p for p in parts if p]:
                entries.append((f"{cell['name']} {name}", [median(part) for part in zip(*parts)]))
    if entries:
        caption = "CPU time per operation of the whole machine"
        yield caption, charts.stacked(caption, entries, ["server", "load", "others, interrupts"],
                                      lambda v: show(v, "time"))


def parts_of(trial):
    spent = trial["spent"]
    done = (trial["metrics"].get("ops_per_s") or 0) * spent["time"] / 1e9
    rest = spent["machine"] - spent["own"] - spent["server"] - spent["load"]
    return [spent["server"] / done, spent["load"] / done, max(rest, 0) / done] if done else None


def latencies(report, cell):
    lines = {}
    for name in names_of(report):
        trials = [t for t in report["trials"] if (t["cell"], t["variant"]) == (cell["name"], name)]
        points = [(-math.log10(1 - share), value)
                  for share, value in histogram.of_trials(trials) if value > 0]
        if len(points) > 1:
            lines[name] = points
    if lines:
        what = "response" if cell["rate"] or cell["rate_of"] else "service time, closed loop"
        caption = f"Latency by percentile, {cell['name']}: {what}"
        yield caption, charts.curves(caption, lines, lambda v: f"{100 * (1 - 10 ** -v):.5g} %",
                                     lambda v: show(v, "time"), "percentile", marks=NINES)


def order_of_trials(report):
    """Each trial against the median of its like, in the order in which they ran: drift is seen."""
    good = [t for t in report["trials"] if t["status"] == "ok" and t["metrics"].get("ops_per_s")]
    typical = {}
    for trial in good:
        typical.setdefault((trial["cell"], trial["variant"]), []).append(
            trial["metrics"].get("machine_cpu_ns") or 1)
    lines = {}
    for at, trial in enumerate(good, 1):
        middle = median(typical[trial["cell"], trial["variant"]])
        lines.setdefault(trial["variant"], []).append(
            (at, (trial["metrics"].get("machine_cpu_ns") or 1) / middle))
    if len(good) > 2:
        caption = "CPU per operation against the median of the same cell, in the order of trials"
        yield caption, charts.curves(caption, lines, lambda v: f"{v:g}", lambda v: f"{v:.2f}",
                                     "trial", (False, False), points=True)


def environment_of(report):
    rows = []
    for name, value in report["environment"].items():
        text = value if isinstance(value, str) else json.dumps(value)
        rows.append([escape(name), escape(text)])
    command = escape(reproducing(report))
    return (f"<h3>The command that repeats it</h3><pre><code>{command}</code></pre>"
            f"<details><summary>Environment</summary>{table('Environment', ['', ''], rows)}"
            "</details>")


def reproducing(report):
    command = report["command"]
    return command if "--seed" in command else f"{command} --seed {report['seed']}"


def between(first, other):
    """What another run did better or worse than the first."""
    problems, found = compare.compare(first[1], other[1])
    rows = []
    for c in found:
        kind = KINDS[c["endpoint"]]
        numbers = [show(c["a"], kind), show(c["b"], kind), f"{c['ratio']:.3f}{interval(c)}"] \
            if "ratio" in c else ["", "", ""]
        rows.append([f"{escape(c['cell'])} {escape(c['variant'])}", HEADINGS[c["endpoint"]],
                     *numbers, badge(c)])
    said = "".join(f"<li>{escape(problem)}</li>" for problem in problems)
    return (f"<section><h2>{escape(other[0])} against {escape(first[0])}</h2>"
            + (f"<p>Not comparable:</p><ul>{said}</ul>" if said else "")
            + table(f"{other[0]} against {first[0]}", ["cell and variant", "metric", first[0],
                                                       other[0], "ratio", "verdict"], rows)
            + "</section>")
