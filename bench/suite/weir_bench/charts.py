"""Pictures for the page, as SVG: no script draws them, so they are there in print and offline.

Colours are classes of the page's style sheet (s0, s1 ... and the verdicts), so they follow light
and dark. Every mark can be reached by the keyboard and has a title that says its numbers.
"""

import math
from html import escape

WIDTH = 760
LEFT, RIGHT, TOP, BOTTOM = 190, 20, 12, 34
LEGEND_LEFT, LEGEND_LINE = 40, 18
SERIES_MAX = 8
MARK_SHAPES = ("circle", "square", "diamond")


def number(value):
    """A coordinate, short."""
    return f"{value:.1f}".rstrip("0").rstrip(".")


class Axis:
    """Maps values to pixels, linear or logarithmic, and knows its ticks."""

    def __init__(self, low, high, start, end, log=False, marks=()):
        self.log, self.marks = log, [mark for mark in marks if low <= mark <= high]
        if log:
            low, high = math.log(low), math.log(high)
        if high <= low:
            low, high = low - 0.05, high + 0.05
        self.low, self.high, self.start, self.end = low, high, start, end

    def at(self, value):
        value = math.log(value) if self.log else value
        part = min(max((value - self.low) / (self.high - self.low), 0), 1)
        return self.start + part * (self.end - self.start)

    def ticks(self, count=6):
        if self.marks:
            return self.marks
        if self.log:
            return log_ticks(math.exp(self.low), math.exp(self.high), count)
        step = nice((self.high - self.low) / count)
        first = math.ceil(self.low / step - 1e-9)
        return [i * step for i in range(first, math.floor(self.high / step + 1e-9) + 1)]


def nice(step):
    scale = 10 ** math.floor(math.log10(step))
    return next(factor * scale for factor in (1, 2, 5, 10) if factor * scale >= step)


def log_ticks(low, high, count):
    if high / low < 10:
        step = nice((high - low) / count)
        return [i * step for i in range(math.ceil(low / step), math.floor(high / step) + 1) if i]
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    factors = (1, 2, 5) if high / low < 1000 else (1,)
    ticks = [factor * 10.0 ** p for p in powers for factor in factors
             if low <= factor * 10.0 ** p <= high]
    return ticks[::max(1, len(ticks) // count)]


def svg(title, description, height, parts):
    body = "\n".join(parts)
    return (f'<svg class="chart" viewBox="0 0 {WIDTH} {number(height)}" role="group" '
            f'aria-label="{escape(title)}"><title>{escape(title)}</title>'
            f"<desc>{escape(description)}</desc>\n{body}\n</svg>")


def text(x, y, content, anchor="start", kind=""):
    return (f'<text x="{number(x)}" y="{number(y)}" text-anchor="{anchor}" class="{kind}">'
            f"{escape(content)}</text>")


def line(x1, y1, x2, y2, kind):
    return (f'<line x1="{number(x1)}" y1="{number(y1)}" x2="{number(x2)}" y2="{number(y2)}" '
            f'class="{kind}"/>')


def mark(label, parts):
    """Shapes that are one thing for keyboard and screen reader; the title is its name for both."""
    return f'<g tabindex="0" role="img"><title>{escape(label)}</title>{"".join(parts)}</g>'


def shape(x, y, kind, at=0, size=4):
    """A dot; the shape tells series apart where colours do not."""
    name = MARK_SHAPES[at % len(MARK_SHAPES)]
    if name == "circle":
        return f'<circle cx="{number(x)}" cy="{number(y)}" r="{size}" class="{kind}"/>'
    turn = f' transform="rotate(45 {number(x)} {number(y)})"' if name == "diamond" else ""
    return (f'<rect x="{number(x - size)}" y="{number(y - size)}" width="{2 * size}" '
            f'height="{2 * size}" class="{kind}"{turn}/>')


def series(at):
    return f"s{at % SERIES_MAX}"


def legend(names, y):
    """From y on downwards, in as many lines as legend_height() says."""
    parts, x = [], LEGEND_LEFT
    for at, name in enumerate(names):
        if x > LEGEND_LEFT and x + legend_width(name) > WIDTH:
            x, y = LEGEND_LEFT, y + LEGEND_LINE
        parts += [shape(x, y - 4, f"{series(at)} fill", at), text(x + 9, y, name)]
        x += legend_width(name)
    return parts


def legend_width(name):
    return 30 + 7.5 * len(name)


def legend_height(names):
    lines, x = 1, LEGEND_LEFT
    for name in names:
        if x > LEGEND_LEFT and x + legend_width(name) > WIDTH:
            lines, x = lines + 1, LEGEND_LEFT
        x += legend_width(name)
    return lines * LEGEND_LINE


def x_axis(axis, bottom, show, title):
    parts = [line(axis.start, bottom, axis.end, bottom, "axis")]
    for tick in axis.ticks():
        parts += [line(axis.at(tick), TOP, axis.at(tick), bottom, "grid"),
                  text(axis.at(tick), bottom + 14, show(tick), "middle", "small")]
    return [*parts, text((axis.start + axis.end) / 2, bottom + 29, title, "middle", "small")]


def y_axis(axis, show):
    return [part for tick in axis.ticks() for part in
            (line(LEFT, axis.at(tick), WIDTH - RIGHT, axis.at(tick), "grid"),
             text(LEFT - 6, axis.at(tick) + 4, show(tick), "end", "small"))]


def forest(title, entries):
    """Ratios with their intervals. Entries: (label, comparison with a ratio)."""
    ends = [c.get(key, c["ratio"]) for _, c in entries for key in ("low", "high")]
    low, high = min([0.9, *ends]) / 1.03, max([1.1, *ends]) * 1.03
    height = TOP + 20 * len(entries) + BOTTOM
    bottom = height - BOTTOM
    axis = Axis(low, high, LEFT, WIDTH - RIGHT, log=True)
    parts = x_axis(axis, bottom, lambda v: f"{v:.3g}", "ratio to the base, logarithmic")
    drawn_last = []
    for at, (label, c) in enumerate(entries):
        y = TOP + 20 * at + 10
        kind = c["verdict"].lower()
        said = f"{label}: ratio {c['ratio']:.3f}, {c['verdict']}: {c['reason']}"
        drawn = [shape(axis.at(c["ratio"]), y, f"{kind} fill")]
        band = [axis.at(1 / (1 + c["margin"])), axis.at(1 + c["margin"])]
        parts.append(f'<rect x="{number(band[0])}" y="{number(y - 9)}" class="margin" '
                     f'width="{number(band[1] - band[0])}" height="18"/>')
        if "low" in c:
            said += f" (interval {c['low']:.3f} to {c['high']:.3f})"
            drawn.insert(0, line(axis.at(c["low"]), y, axis.at(c["high"]), y, f"{kind} bar"))
        parts.append(text(LEFT - 8, y + 4, label, "end"))
        drawn_last.append(mark(said, drawn))
    # Over the margins.
    parts += [line(axis.at(1), TOP, axis.at(1), bottom, "one"), *drawn_last]
    return svg(title, f"{len(entries)} ratios with their intervals; the band is the margin within "
               "which a difference does not matter", height, parts)


def waterfall(title, chains):
    """Rungs one below the other, each from where the one before ended. Chains: (name, steps as
    ladder.climbs() gives them)."""
    every = [step for _, steps in chains for step in steps]
    height = TOP + 20 * (len(every) + len(chains)) + BOTTOM
    bottom = height - BOTTOM
    axis = Axis(0, max(level for _, level, _ in every) * 1.02, LEFT, WIDTH - RIGHT)
    parts = x_axis(axis, bottom, lambda v: f"{v:.3g}", "over the default plan's, less is better")
    parts.append(line(axis.at(1), TOP, axis.at(1), bottom, "one"))
    y = TOP
    for chain, steps in chains:
        parts.append(text(LEFT - 8, y + 14, chain, "end", "small"))
        y, before = y + 20, 0
        for name, level, change in steps:
            parts += [text(LEFT - 8, y + 14, name, "end"),
                      step_mark(f"{chain}, {name}", axis, y, (before, level), change)]
            y, before = y + 20, level
    return svg(title, "each bar leads from the rung before to its own", height, parts)


def step_mark(label, axis, y, ends, change):
    """One rung: the colour says whether the whole interval of the step lies on one side."""
    before, level = ends
    kind, said = "s0", f"{label}: {level:.3f} of the default plan's"
    if change:
        low, high = change.get("low", 0), change.get("high", math.inf)
        kind = "faster" if high < 1 else "slower" if low > 1 else "inconclusive"
        said += f", {change['ratio'] - 1:+.1%} to the rung before"
        if "low" in change:
            said += f" (interval {low - 1:+.1%} to {high - 1:+.1%})"
    x, end = sorted((axis.at(before), axis.at(level)))
    return mark(said, [f'<rect x="{number(x)}" y="{y + 2}" width="{number(max(end - x, 1.5))}" '
                       f'height="15" class="{kind} fill"/>'])


def stacked(title, entries, names, show):
    """Bars of several parts. Entries: (label, values in the order of names)."""
    bottom = TOP + 22 * len(entries)
    height = bottom + BOTTOM + legend_height(names)
    axis = Axis(0, max(sum(values) for _, values in entries) * 1.02, LEFT, WIDTH - RIGHT)
    parts = x_axis(axis, bottom, show, "")
    for at, (label, values) in enumerate(entries):
        y, before = TOP + 22 * at + 3, 0
        parts.append(text(LEFT - 8, y + 12, label, "end"))
        for i, value in enumerate(values):
            x, end = axis.at(before), axis.at(before + value)
            parts.append(mark(f"{label}, {names[i]}: {show(value)}", [
                f'<rect x="{number(x)}" y="{y}" width="{number(end - x)}" height="16" '
                f'class="{series(i)} fill"/>']))
            before += value
    return svg(title, "stacked bars", height, [*parts, *legend(names, bottom + BOTTOM + 12)])


def curves(title, by_name, show_x, show_y, x_title, log=(False, True), points=False, marks=()):
    """Lines, or with `points` single marks. by_name: {name: [(x, y), ...]}; marks: the x ticks."""
    every = [point for list_ in by_name.values() for point in list_]
    bottom = TOP + 214
    height = bottom + BOTTOM + legend_height(by_name)
    x = Axis(min(p[0] for p in every), max(p[0] for p in every), LEFT, WIDTH - RIGHT, log[0],
             marks)
    y = Axis(min(p[1] for p in every) / 1.05, max(p[1] for p in every) * 1.05, bottom, TOP, log[1])
    parts = [*x_axis(x, bottom, show_x, x_title), *y_axis(y, show_y)]
    for at, (name, list_) in enumerate(by_name.items()):
        dots = [(x.at(a), y.at(b)) for a, b in list_]
        if not points:
            path = " ".join(f"{number(a)},{number(b)}" for a, b in dots)
            parts.append(f'<polyline points="{path}" class="{series(at)} curve"/>')
        for (a, b), (px, py) in zip(list_, dots):
            parts.append(mark(f"{name}: {show_x(a)}, {show_y(b)}",
                              [shape(px, py, f"{series(at)} fill", at, 3)]))
    return svg(title, ", ".join(by_name), height, [*parts, *legend(by_name, bottom + BOTTOM + 12)])
