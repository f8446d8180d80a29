"""The result of a comparison as a table, as JSON and as a picture."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageFont

from tinygan.errors import UsageError

Result = dict[str, Any]


def table(result: Result) -> str:
    """Plain text, the fastest first; then what could not be measured, and what is not installed."""
    hardware, rows = result["hardware"], result["competitors"]
    lines = [
        f"{hardware['processor']}, {result['device']}, {result['threads']} threads, "
        f"batch {result['batch']}, float32, Python {hardware['python']}",
        "",
        f"{'':<22}{'s/step':>8}{'min':>8}{'max':>8}{'ratio':>7}"
        f"{'peak':>9}{'to 1st step':>13}{'on disk':>9}  version",
    ]
    for name, row in ranked(rows):
        ratio = f"{row['ratio_to_tinygan']:.2f}" if "ratio_to_tinygan" in row else "-"
        lines.append(
            f"{name:<22}{row['median_seconds']:>8.3f}{row['min_seconds']:>8.3f}{row['max_seconds']:>8.3f}"
            f"{ratio:>7}{row['peak_bytes'] / 1e6:>6.0f} MB{row['seconds_to_first_step']:>11.1f} s"
            f"{megabytes(row['installed_bytes']):>9}  {row['version']}"
        )
    lines += [f"{name:<22}{row['problem']}" for name, row in rows.items() if "problem" in row]
    if result["not installed"]:
        missing = ", ".join(result["not installed"])
        lines += ["", f"not installed: {missing}. This brings them: pip install -e '.[bench]'"]
    return "\n".join(lines)


def ranked(rows: dict[str, dict[str, Any]]) -> list[tuple[str, dict[str, Any]]]:
    measured = [(name, row) for name, row in rows.items() if "median_seconds" in row]
    return sorted(measured, key=lambda item: item[1]["median_seconds"])


def megabytes(count: int | None) -> str:
    return "-" if count is None else f"{count / 1e6:.0f} MB"


def write_json(path: Path, result: Result) -> None:
    """Raises: UsageError: the file cannot be written."""
    try:
        path.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    except OSError as problem:
        raise UsageError(f"cannot write {path}: {problem.strerror}. Name another file.") from None


BAR, GAP, LEFT, RIGHT, TOP = 34, 16, 230, 190, 96  # pixels
DARK, GREY, GREEN = "#222222", "#9aa5b1", "#2f9e62"


def plot(path: Path, result: Result) -> None:
    """Horizontal bars of seconds a step, the fastest on top, as a PNG.

    Raises:
        UsageError: the file cannot be written.
    """
    rows = ranked(result["competitors"])
    width, height = 1000, TOP + len(rows) * (BAR + GAP) + GAP
    picture = Image.new("RGB", (width, height), "white")
    draw = ImageDraw.Draw(picture)
    large, normal, small = (ImageFont.load_default(size) for size in (24, 19, 15))
    draw.text((24, 18), f"Seconds a training step, batch {result['batch']}: less is better", DARK, large)
    hardware = result["hardware"]["processor"]
    draw.text(
        (24, 54),
        f"{hardware}, {result['device']}, {result['threads']} threads, float32, medians",
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
        ratio = (
            f"   {row['ratio_to_tinygan']:.2f} x" if "ratio_to_tinygan" in row and name != "tinygan" else ""
        )
        label = f"{row['median_seconds']:.3f} s{ratio}"
        draw.text((LEFT + length + 10, y + BAR / 2), label, DARK, normal, anchor="lm")
    try:
        picture.save(path, format="PNG")
    except OSError as problem:
        raise UsageError(f"cannot write {path}: {problem.strerror or problem}. Name another file.") from None
