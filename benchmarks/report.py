"""The result of a comparison as a table, as JSON and as a bar chart."""

import json
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageFont

from benchmarks import floor
from tinygan.errors import UsageError
from tinygan.files import write_atomically

Result = dict[str, Any]


STEPS_AN_EPOCH = 235  # of the seed: 60,000 images, batch 256


def table(result: Result) -> str:
    """A table in plain text, the fastest first, then the competitors that failed or are not installed."""
    hardware, rows = result["hardware"], result["competitors"]
    on_card = result["device"] == "gpu"
    where = (
        card(rows) if on_card else f"{hardware['processor']}, {result['device']}, {result['threads']} threads"
    )
    lines = [f"{where}, batch {result['batch']}, {result['precision']}, Python {hardware['python']}", ""]
    lines += card_rows(rows) if on_card else processor_rows(rows)
    lines += [f"{name:<22}{row['problem']}" for name, row in rows.items() if "problem" in row]
    rounds = result.get("rounds", {"taken": 0, "of": 0})
    if rounds["taken"] < rounds["of"]:
        lines += ["", f"after {rounds['taken']} of {rounds['of']} rounds"]
    facts = rows.get("tinygan", {})
    if on_card and "operations" in facts:
        lines += ["", *floor.lines(facts["median_seconds"], result["batch"], facts)]
    if result["not installed"]:
        missing = ", ".join(result["not installed"])
        packages = "'.[bench]'" + (" 'jax[cuda13]' (CUDA 12: 'jax[cuda12]')" if on_card else "")
        lines += ["", f"not installed: {missing}. Use pip install -e {packages}"]
    return "\n".join(lines)


def processor_rows(rows: dict[str, dict[str, Any]]) -> list[str]:
    lines = [
        f"{'':<22}{'s/step':>8}{'min':>8}{'max':>8}{'ratio':>7}"
        f"{'peak':>9}{'to 1st step':>13}{'on disk':>9}  version"
    ]
    for name, row in ranked(rows):
        lines.append(
            f"{name:<22}{row['median_seconds']:>8.3f}{row['min_seconds']:>8.3f}{row['max_seconds']:>8.3f}"
            f"{ratio(row):>7}{row['peak_bytes'] / 1e6:>6.0f} MB{row['seconds_to_first_step']:>11.1f} s"
            f"{megabytes(row['installed_bytes']):>9}  {row['version']}"
        )
    return lines


def card_rows(rows: dict[str, dict[str, Any]]) -> list[str]:
    lines = [
        f"{'':<22}{'ms/step':>9}{'min':>9}{'max':>9}{'ratio':>7}{'s/epoch':>9}"
        f"{'on card':>10}{'kernels':>9}{'to 1st step':>13}  version"
    ]
    for name, row in ranked(rows):
        median, least, most = (row[f"{kind}_seconds"] * 1e3 for kind in ("median", "min", "max"))
        lines.append(
            f"{name:<22}{median:>9.3f}{least:>9.3f}{most:>9.3f}{ratio(row):>7}"
            f"{median / 1e3 * STEPS_AN_EPOCH:>9.3f}{row['peak_bytes'] / 1e6:>7.0f} MB"
            f"{row.get('launches', '-'):>9}{row['seconds_to_first_step']:>11.1f} s  {row['version']}"
        )
    return lines


def card(rows: dict[str, dict[str, Any]]) -> str:
    """The card's name and versions, from the first competitor that reports them."""
    facts = next((row["card"] for row in rows.values() if row.get("card")), None)
    return ", ".join(f"{key} {value}" for key, value in facts.items()) if facts else "gpu"


def ratio(row: dict[str, Any]) -> str:
    return f"{row['ratio_to_tinygan']:.2f}" if "ratio_to_tinygan" in row else "-"


def ranked(rows: dict[str, dict[str, Any]]) -> list[tuple[str, dict[str, Any]]]:
    measured = [(name, row) for name, row in rows.items() if "median_seconds" in row]
    return sorted(measured, key=lambda item: item[1]["median_seconds"])


def megabytes(count: int | None) -> str:
    return "-" if count is None else f"{count / 1e6:.0f} MB"


def write_json(path: Path, result: Result) -> None:
    """Write all of `result`, or leave the file as it was. Raises: as `write_atomically`."""
    write_atomically(path, (json.dumps(result, indent=2) + "\n").encode())


BAR, GAP, LEFT, RIGHT, TOP = 34, 16, 230, 190, 96  # pixels
DARK, GREY, GREEN = "#222222", "#9aa5b1", "#2f9e62"


def plot(path: Path, result: Result) -> None:
    """Draw seconds per step as horizontal bars in a PNG, the fastest on top.
    Raises: UsageError if the file cannot be written."""
    rows = ranked(result["competitors"])
    width, height = 1000, TOP + len(rows) * (BAR + GAP) + GAP
    picture = Image.new("RGB", (width, height), "white")
    draw = ImageDraw.Draw(picture)
    large, normal, small = (ImageFont.load_default(size) for size in (24, 19, 15))
    draw.text((24, 18), f"Seconds per training step, batch {result['batch']}: lower is better", DARK, large)
    hardware, on_card = f"{result['hardware']['processor']}, cpu", result["device"] == "gpu"
    draw.text(
        (24, 54),
        f"{card(result['competitors']) if on_card else hardware}, {result['threads']} threads, "
        f"{result['precision']}, medians",
        GREY,
        small,
    )
    longest = max((row["median_seconds"] for _, row in rows), default=1)
    for number, (name, row) in enumerate(rows):
        y = TOP + number * (BAR + GAP)
        length = (width - LEFT - RIGHT) * row["median_seconds"] / longest
        colour = GREEN if name.startswith("tinygan") else GREY
        draw.rectangle((LEFT, y, LEFT + max(length, 2), y + BAR), colour)
        draw.text((LEFT - 12, y + BAR / 2), name, DARK, normal, anchor="rm")
        times = f"   {ratio(row)} x" if "ratio_to_tinygan" in row and name != "tinygan" else ""
        seconds = row["median_seconds"]
        label = (f"{seconds * 1e3:.2f} ms" if on_card else f"{seconds:.3f} s") + times
        draw.text((LEFT + length + 10, y + BAR / 2), label, DARK, normal, anchor="lm")
    try:
        picture.save(path, format="PNG")
    except OSError as problem:
        raise UsageError(f"cannot write {path}: {problem.strerror or problem}. Name another file.") from None
