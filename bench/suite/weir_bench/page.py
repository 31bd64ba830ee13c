"""One HTML page from one or more reports: it needs no network, no script and no other file."""

import json
import os
from html import escape

from . import compare, replay
from .pictures import pictures
from .summary import summarize
from .table import (HEADINGS, KINDS, NOTES, VERDICT_NOTE, head_of, left_out, show,
                    warnings_of)

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


def line_of(row):
    """Its first cell names the row."""
    return (f'<tr><th scope="row">{row[0]}</th>' + "".join(f"<td>{cell}</td>" for cell in row[1:])
            + "</tr>")


def table(caption, headings, rows):
    """Rows are lists of HTML."""
    return scrolling(caption, headings, "<tbody>\n" + "\n".join(map(line_of, rows))
                     + "\n</tbody>")


def scrolling(caption, headings, bodies, kind=""):
    head = "".join(f'<th scope="col">{escape(heading)}</th>' for heading in headings)
    # A wide table scrolls by itself; the keyboard must be able to do that, too.
    return (f'<div class="scroll" tabindex="0" role="region" aria-label="{escape(caption)}">'
            f'<table class="{kind}"><caption>{escape(caption)}</caption><thead><tr>{head}</tr>'
            f"</thead>{bodies}</table></div>")


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
    """One group of lines per cell, so that the variants stand below each other."""
    metrics = [name for name in HEADINGS if any(name in row["metrics"] for row in rows)]
    headings = ["variant", *(HEADINGS[name] for name in metrics), "guards"]
    titles = {row["cell"]: row["title"] for row in rows}
    groups = []
    for cell, title in titles.items():
        lines = [f'<tr><th scope="rowgroup" colspan="{len(headings)}"><b>{escape(cell)}</b> '
                 f"<small>{escape(title)}</small></th></tr>"]
        for row in rows:
            if row["cell"] == cell:
                lines.append(line_of([escape(row["variant"]),
                                      *(cell_of_table(row, name) for name in metrics),
                                      guards_of(row)]))
        groups.append("<tbody>\n" + "\n".join(lines) + "\n</tbody>")
    return scrolling("Medians, ratios to the base with intervals, verdicts, and guards that spoke",
                     headings, "\n".join(groups), "verdicts")


def guards_of(row):
    return "".join(f'<span class="guard {w["severity"]}" title="{escape(w["text"])}">'
                   f"{escape(w['guard'])} {w['trials']}/{w['of']}</span> "
                   for w in row["warnings"])


def one_run(at, name, report, rows):
    parts = [f'<section id="r{at}"><h2>{escape(name)}</h2>',
             *(f"<p>{escape(line)}</p>" for line in head_of(report)), verdict_table(rows),
             f"<p>{escape(VERDICT_NOTE)}</p>", *(f"<p>{escape(note)}</p>" for note in NOTES)]
    told = [*warnings_of(rows, ("invalid", "warning", "note")),
            *left_out(report)]
    if told:
        parts.append("<h3>What the guards say</h3><ul>"
                     + "".join(f"<li>{escape(line)}</li>" for line in told) + "</ul>")
    drawn = list(pictures(report, rows))
    parts.append(contents(at, [title for title, _ in drawn]))
    parts += [f'<figure id="r{at}f{i}"><figcaption>{escape(title)}</figcaption>'
              f'<div class="scroll">{chart}</div></figure>'
              for i, (title, chart) in enumerate(drawn)]
    if answered := published(report):
        parts.append(answered)
    return "\n".join([*parts, environment_of(report), "</section>"])


def contents(at, titles):
    """Links to the pictures: hundreds of marks can be reached by the keyboard, but not at once."""
    links = "".join(f'<li><a href="#r{at}f{i}">{escape(title)}</a></li>'
                    for i, title in enumerate(titles))
    return (f'<nav aria-label="Pictures of this run"><details><summary>{len(titles)} pictures'
            f"</summary><ul>{links}</ul></details></nav>")


def published(report):
    """Of a replay: what others found, and whether this run agrees."""
    if not any(cell.get("expect") for cell in report["scenario"]["cells"]):
        return ""
    rows = []
    for cell, expect, answer, seen in replay.answers(report):
        here = f"{seen['ratio']:.2f} {escape(seen.get('by', ''))}" if "ratio" in seen else "&ndash;"
        ratio = f"{expect['variant']} over {expect.get('base', report['base'])}"
        rows.append([escape(cell), escape(expect["source"]), escape(ratio),
                     f"{expect['ratio']:.2f}", here, badge(seen), f"<b>{answer}</b>"])
    return table("Published results, ratios of rates",
                 ["cell", "source", "ratio of", "published", "here", "verdict", "answer"], rows)


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
