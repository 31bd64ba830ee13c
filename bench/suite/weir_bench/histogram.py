"""Histograms as weir-load writes them: [smallest value, count] pairs that can be added."""

BEYOND_MIN = 100
LEVELS = (0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 0.995, 0.999, 0.9995, 0.9999)


def merge(histograms):
    """One {value: count} of all of them."""
    sum_ = {}
    for histogram in histograms:
        for value, count in histogram["buckets"]:
            sum_[value] = sum_.get(value, 0) + count
    return sum_


def percentiles(merged):
    """[(share, value)] for each level with enough samples beyond it."""
    total, found, passed = sum(merged.values()), [], 0
    levels = [level for level in LEVELS if total * (1 - level) >= BEYOND_MIN]
    for value, count in sorted(merged.items()):
        passed += count
        while levels and passed >= levels[0] * total:
            found.append((levels.pop(0), value))
    return found


def of_trials(trials):
    """The percentiles of all usable trials together: response times where there are any."""
    found = []
    for trial in trials:
        result = trial.get("load", {}).get("result")
        histograms = result.get("histograms", {}) if isinstance(result, dict) else {}
        if trial["status"] == "ok" and (one := histograms.get("response")
                                        or histograms.get("service")):
            found.append(one)
    return percentiles(merge(found))
