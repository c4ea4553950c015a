"""Turn figures of a study into words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from neurosweep.cli.summary import show_path
from neurosweep.records.cost import hours_text
from neurosweep.records.metric_names import variant_label, variant_of
from neurosweep.records.mlflow_names import clean_text, short_names, show_value

NAMES = {
    "val_cer": "character error rate",
    "val_wer": "word error rate",
    "val_acc": "accuracy",
    "val_window_err": "window error",
}


def headline(summary: Mapping[str, Any]) -> str:
    """Return one line: where a study stands."""
    trials = summary["trials"]
    ended = trials["done"] + trials["failed"]
    text = f"{summary['study']}: {summary['state']}"
    if summary["reason"] and summary["reason"] != summary["state"]:
        text += f" ({summary['reason']})"
    return f"{text}, {ended} of {trials['planned']} search trials ended"


def progress_line(summary: Mapping[str, Any]) -> str:
    """Return one line of counts, running best and time left."""
    trials, floor = summary["trials"], summary["floor"]
    where = f"round {summary['round']} of {summary['rounds']}"
    if not summary["round"]:
        where = f"floor {floor['done'] + floor['failed']} of {floor['planned']}"
    parts = [
        where,
        f"{trials['done']} done, {trials['failed']} failed, {trials['running']} running, "
        f"{trials['queued']} queued of {trials['planned']}",
        f"best {best_text(summary)}",
    ]
    if summary["throttle"] is not None and summary["state"] in ("running", "resumable"):
        parts.append(f"throttled to {summary['throttle']} at a time")
    if summary["pace"]["trials_per_minute"] is not None:
        parts.append(f"{summary['pace']['trials_per_minute']:.1f} trials/min")
    if summary["pace"]["eta_s"]:
        parts.append(f"{duration(summary['pace']['eta_s'])} left")
    return " | ".join(parts)


def best_text(summary: Mapping[str, Any]) -> str:
    """Return the running best with its interval, or a dash."""
    best = summary["best"]
    if best is None:
        return "-"
    text = f"{summary['objective']['metric']} {best['value']:.4f}"
    return f"{text}{interval_text(best['low'], best['high'])} in {best['trial']}"


def interval_text(low: float | None, high: float | None) -> str:
    """Return " [low, high]", or nothing when there is no interval."""
    return "" if low is None or high is None else f" [{low:.4f}, {high:.4f}]"


def duration(seconds: float) -> str:
    """Return seconds in words.

    Examples
    --------
    >>> duration(3725)
    '1 h 02 min'
    """
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min"


def failures_text(failures: Mapping[str, int]) -> str:
    """Return failed trials by kind, or "none"."""
    return ", ".join(f"{count} {kind}" for kind, count in failures.items()) or "none"


def failure_lines(error: Mapping[str, Any]) -> list[str]:
    """Return what the last failure of a kind said, what to do, and where its log is."""
    what = error["kind"] + (f" ({error['type']})" if error["type"] else "")
    said = clean_text(error["text"], 240) or error["meaning"]
    lines = [f"  {error['count']} {what}, last {error['trial']}: {said}"]
    if error["advice"]:
        lines.append(f"    {error['meaning']}; {error['advice']}")
    return [*lines, f"    log: {show_path(error['log'])}"]


def cost_text(cost: Mapping[str, Any]) -> str:
    """Return what a study or a trial cost, in a line; what is nothing is left out.

    Examples
    --------
    >>> from neurosweep.records.cost import Cost
    >>> cost_text(Cost(2.5, 0.0, 0.5, attempts=4, queue_s=40, queue_max_s=20).to_dict())
    '2.50 core-hours, 0.50 of them without a score; waited 10 s on average, 20 s at most'
    """
    text = f"{hours_text(cost['core_hours'])} core-hours"
    lost = cost["lost_core_hours"]
    if cost["gpu_hours"]:
        text += f", {hours_text(cost['gpu_hours'])} GPU-hours"
        lost = cost["lost_gpu_hours"]
    if lost >= 0.001:
        text += f", {hours_text(lost)} of them without a score"
    if cost["queue_max_s"] >= 1:
        mean, longest = duration(cost["queue_mean_s"]), duration(cost["queue_max_s"])
        text += f"; waited {mean} on average, {longest} at most"
    if cost["restarts"]:
        text += f"; {cost['restarts']} restart" + "s" * (cost["restarts"] > 1)
    if cost["idle"]:
        text += f"; {100 * cost['idle']:.0f} % of the slots' time idle"
    return text


def results_table(summary: Mapping[str, Any]) -> tuple[Sequence[str], list[Sequence[str]]]:
    """Return header and rows: every metric of the default, of the best trial and at chance.

    A column is left out when there is nothing to show in it. The best of several seeds of the
    unchanged recipe is luck, so with the agent ``default`` only the mean is shown.
    """
    default, chance = summary["default"], summary["chance"]
    best = None if summary["agent"] == "default" else summary["best"]
    best_metrics = {} if best is None else best["metrics"]
    metric = summary["objective"]["metric"]
    names = [metric, *sorted((set(default["mean"]) | set(best_metrics)) - {metric})]
    columns = [("metric", [_named(name) for name in names])]
    if default["seeds"]:
        columns.append((_seeds_title(default["seeds"]), [_over_seeds(default, n) for n in names]))
    if best is not None:
        columns.append((f"best ({best['trial']})", [_of_best(best, n, metric) for n in names]))
    columns.append(("chance", [_value(chance.get(name)) for name in names]))
    return [title for title, _ in columns], list(zip(*(cells for _, cells in columns), strict=True))


def _named(metric: str) -> str:
    variant = variant_of(metric)
    words = NAMES.get(variant[0] if variant else metric)
    if words is None:
        return metric
    return f"{metric} ({words}{', ' + variant_label(variant[1]) if variant else ''})"


def _seeds_title(seeds: int) -> str:
    return "default, 1 seed" if seeds == 1 else f"default, mean of {seeds} seeds (range)"


def _over_seeds(default: Mapping[str, Any], name: str) -> str:
    text = _value(default["mean"].get(name))
    if default["seeds"] < 2 or name not in default["mean"]:
        return text
    return f"{text} ({default['low'][name]:.4f} to {default['high'][name]:.4f})"


def _of_best(best: Mapping[str, Any], name: str, metric: str) -> str:
    low, high = best["intervals"].get(name) or (None, None)
    if low is None and name == metric:
        low, high = best["low"], best["high"]
    return _value(best["metrics"].get(name)) + interval_text(low, high)


def _value(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def grid_table(summary: Mapping[str, Any]) -> tuple[Sequence[str], list[Sequence[str]]]:
    """Return header and rows: every combination of a grid and what it came to."""
    paths = list(dict.fromkeys(path for row in summary["grid"] for path in row["overrides"]))
    names = short_names(paths)
    header = ["trial", *(names[path] for path in paths), summary["objective"]["metric"]]
    rows: list[Sequence[str]] = []
    for row in summary["grid"]:
        ended = row["kind"] if row["state"] == "failed" else row["state"]
        value = ended if row["value"] is None else _value(row["value"])
        value += interval_text(row["low"], row["high"])
        settings = (show_value(row["overrides"].get(path)) for path in paths)
        rows.append([row["trial"], *settings, value])
    return header, rows


def changes_text(overrides: Mapping[str, Any]) -> str:
    """Return searched values as ``path=value`` words."""
    shown = (f"{p}={v:.4g}" if isinstance(v, float) else f"{p}={v}" for p, v in overrides.items())
    return "  ".join(shown)


def next_steps(summary: Mapping[str, Any], home: str) -> list[tuple[str, str]]:
    """Return useful commands with what each does, for this state of the study."""
    study = summary["study"]
    if summary["state"] in ("resumable", "paused"):
        return [(f"neurosweep study resume {study}{home}", "go on")]
    if summary["state"] == "running":
        return [(f"neurosweep study status {study}{home}", "look again")]
    steps = [(f"neurosweep ui{home}", "open MLflow")]
    if summary["best"] is not None:
        trial = f"{study}/{summary['best']['trial']}"
        steps.append((f"neurosweep rerun {trial}{home}", "train the best trial again"))
        closed_part = summary["test_part"] and not summary["test_openings"]
        if closed_part and summary["agent"] != "default":
            steps.append((f"neurosweep study confirm {study}{home}", "the test part, once"))
    steps.append((f"neurosweep study report {study}{home}", "build the report again"))
    return steps


def where_report(summary: Mapping[str, Any], home: str) -> str:
    """Return where the report is, or how to get it."""
    if summary["report"] is None:
        return f"not built yet; neurosweep study report {summary['study']}{home}"
    return show_path(summary["report"])
