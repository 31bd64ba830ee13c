"""A report as CSV: one line per cell, variant and metric."""

import csv
import io

from .summary import EXTRA, METRICS, summarize

COLUMNS = ("cell", "title", "variant", "base", "metric", "kind", "median", "trials", "ratio", "low",
           "high", "level", "pairs", "p", "p_adjusted", "margin", "verdict", "reason")


def as_csv(report):
    file = io.StringIO()
    writer = csv.DictWriter(file, COLUMNS, restval="", lineterminator="\n")
    writer.writeheader()
    for row in summarize(report):
        for metric, _, kind in METRICS + EXTRA:
            values = {**row["metrics"].get(metric, {}), **row["verdicts"].get(metric, {})}
            if values:
                line = {**{key: row[key] for key in ("cell", "title", "variant", "base")},
                        **values, "metric": metric, "kind": kind}
                writer.writerow({key: line[key] for key in COLUMNS if line.get(key) is not None})
    return file.getvalue()
