"""Draws named curves as a PNG, with a logarithmic y axis."""

from math import ceil, floor, log10
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from tinygan.views.pictures import save_png

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM, LINE = 1000, 500, 70, 30, 30, 50, 22  # pixels
COLOURS = ("#2f9e62", "#d1495b", "#2e6fb7", "#c98a00", "#7b4fa3", "#12878c", "#8a5a44", "#c2479b", "#5f6b76")
DARK, PALE = "#222222", "#dde2e7"


def lines_chart(path: Path, curves: dict[str, list[tuple[float, float]]], across: str, up: str) -> None:
    """Draw `curves`, points (x, y) with y > 0 for each name; `across` and `up` label the axes."""
    picture = Image.new("RGB", (WIDTH, HEIGHT + LINE * len(curves) + LINE // 2), "white")
    draw, font = ImageDraw.Draw(picture), ImageFont.load_default(15)
    points = [point for curve in curves.values() for point in curve]
    longest = max(x for x, _ in points)
    low, high = min(y for _, y in points), max(y for _, y in points)
    bottom, top = log10(low) - 0.02, log10(high) + 0.02

    def place(x: float, y: float) -> tuple[float, float]:
        part = (log10(y) - bottom) / (top - bottom)
        return LEFT + (WIDTH - LEFT - RIGHT) * x / longest, HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * part

    decades = range(floor(bottom), ceil(top) + 1)
    ticks = [digit * 10.0**power for power in decades for digit in (1, 1.5, 2, 3, 4, 5, 7)]
    inside = [y for y in ticks if low <= y <= high]
    for y in inside if len(inside) > 1 else (low, high):
        draw.line((place(0, y), place(longest, y)), PALE)
        draw.text((LEFT - 8, place(0, y)[1]), f"{y:.3g}", DARK, font, anchor="rm")
    for part in range(6):
        x = longest * part / 5
        draw.text((place(x, low)[0], HEIGHT - BOTTOM + 8), f"{x:.3g}", DARK, font, anchor="mt")
    draw.text(((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 6), across, DARK, font, anchor="mb")
    draw.text((8, 6), up, DARK, font)
    for number, (name, curve) in enumerate(curves.items()):
        colour = COLOURS[number % len(COLOURS)]
        draw.line([place(x, y) for x, y in curve], colour, 3, joint="curve")
        y = HEIGHT + LINE * number + LINE // 2
        draw.line((LEFT, y, LEFT + 24, y), colour, 3)
        draw.text((LEFT + 32, y), name, DARK, font, anchor="lm")
    save_png(path, np.asarray(picture))
