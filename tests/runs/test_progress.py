"""The progress line: what it says, when it moves, and that nothing breaks it."""

import io
from typing import Any

import pytest

from tinygan.runs.progress import Progress, duration


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True

    def screen(self) -> list[str]:
        """The lines as they stand on the terminal after every carriage return has done its work."""
        lines = []
        for line in self.getvalue().split("\n"):
            shown = ""
            for part in line.split("\r"):
                shown = part + shown[len(part) :]
            lines.append(shown.rstrip())
        return lines


class Clock:
    now = 1000.0


@pytest.fixture(autouse=True)
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The time of each test; and its terminal is wide."""
    clock = Clock()
    monkeypatch.setattr("tinygan.runs.progress.monotonic", lambda: clock.now)
    monkeypatch.setenv("COLUMNS", "200")
    return clock


def started(kind: Any = Terminal, total_steps: int = 100, **named: Any) -> tuple[Any, Progress]:
    out = kind()
    return out, Progress(out, total_steps, **named)


def steps(
    progress: Progress, clock: Clock, count: int, seconds: float, images: int = 256, first: int = 1
) -> None:
    for step in range(first, first + count):
        clock.now += seconds
        progress.update(f"epoch 3/100  step {step}/235", (0.8412, 1.284, 0.6249, 0.41), images)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"), (44.6, "45 s"), (59.4, "59 s"), (59.6, "1 min"), (12 * 60 + 20, "12 min"), (3599, "1 h"),
        (3600 * 3 + 20 * 60, "3 h 20 min"), (3600 * 30 + 59, "30 h 1 min"),
    ],
)  # fmt: skip
def test_times_read_like_a_person_says_them(seconds, text):
    assert duration(seconds) == text


def test_the_line_says_everything(clock):
    out, progress = started(total_steps=23_500, done_steps=470)
    steps(progress, clock, 120, 0.2)
    assert out.screen() == [
        "epoch 3/100  step 120/235  loss G 0.84 D 1.28  D(x) 0.62 D(G(z)) 0.41  "
        "1,280 images/s  1 h 16 min left"
    ]


def test_the_time_left_appears_after_twenty_steps_of_this_process(clock):
    out, progress = started(total_steps=235, done_steps=100)
    steps(progress, clock, 19, 1.0)
    assert "left" not in out.getvalue()
    assert "256 images/s" in out.getvalue()
    steps(progress, clock, 1, 1.0, first=20)
    assert out.screen()[0].endswith("  256 images/s  2 min left")  # 235 - 100 - 20 = 115 s


def test_a_slow_start_does_not_spoil_the_estimate(clock):
    out, progress = started(total_steps=120)
    steps(progress, clock, 1, 300.0)
    steps(progress, clock, 19, 0.5)
    assert out.screen()[0].endswith("512 images/s  50 s left")


def test_the_estimate_follows_a_change_of_speed(clock):
    out, progress = started(total_steps=500)
    steps(progress, clock, 200, 1.0)
    steps(progress, clock, 100, 0.1, images=2)
    steps(progress, clock, 100, 0.1, images=2)
    progress.close()
    assert out.screen()[0].endswith("20 images/s  10 s left")


def test_slow_training_shows_a_decimal(clock):
    out, progress = started()
    steps(progress, clock, 3, 40.0)
    assert out.screen()[0].endswith("6.4 images/s")


def test_a_clock_that_stands_still_is_no_error(clock):
    out, progress = started()
    steps(progress, clock, 30, 0.0)
    progress.close()
    assert "images/s" not in out.getvalue()


def test_a_terminal_line_is_redrawn_ten_times_a_second_at_most(clock):
    out, progress = started(total_steps=10_000)
    steps(progress, clock, 1000, 1 / 128)  # 7.8 s
    assert 60 <= out.getvalue().count("\r") <= 80
    assert "\n" not in out.getvalue()


def test_closing_leaves_the_last_step_standing(clock):
    out, progress = started(total_steps=235)
    steps(progress, clock, 235, 1 / 512)
    assert "step 235/235" not in out.getvalue()
    progress.close()
    assert "step 235/235" in out.screen()[0]
    assert out.screen()[0].endswith("0 s left")
    assert out.screen()[1:] == [""]
    progress.close()
    assert out.getvalue().count("\n") == 1


def test_a_line_is_cut_to_the_width_of_the_terminal(monkeypatch, clock):
    monkeypatch.setenv("COLUMNS", "40")
    out, progress = started()
    steps(progress, clock, 50, 1.0)
    progress.line("-")
    assert max(len(part) for part in out.getvalue().replace("\n", "\r").split("\r")) == 39


def test_a_shorter_line_leaves_nothing_of_the_longer_one(clock):
    out, progress = started()
    clock.now += 1
    progress.update("epoch 1/1  step 100/100", (12345.0, 1.0, 0.5, 0.5), 0)
    clock.now += 1
    progress.update("epoch 1/1  step 1/100", (1.0, 1.0, 0.5, 0.5), 0)
    assert out.screen() == ["epoch 1/1  step 1/100  loss G 1.00 D 1.00  D(x) 0.50 D(G(z)) 0.50  0.0 images/s"]


def test_a_full_line_stands_above_the_moving_one(clock):
    out, progress = started()
    progress.line("start")
    steps(progress, clock, 2, 1.0)
    progress.line("saved")
    screen = out.screen()
    assert screen[:2] == ["start", "saved"]
    assert screen[2].startswith("epoch 3/100  step 2/235")
    progress.close()
    progress.line("end")
    assert out.screen()[3:] == ["end", ""]


def test_where_there_is_no_terminal_plain_lines_come_now_and_then(clock):
    out, progress = started(io.StringIO, 1000)
    steps(progress, clock, 235, 1.0)
    progress.line("saved")
    progress.close()
    assert "\r" not in out.getvalue()
    lines = out.getvalue().splitlines()
    assert [line.split()[3] for line in lines[:-1]] == [
        f"{step}/235" for step in (20, 50, 80, 110, 140, 170, 200, 230)
    ]
    assert lines[0].endswith("256 images/s  16 min left")
    assert lines[-1] == "saved"


def test_slow_steps_are_reported_before_the_twentieth(clock):
    out, progress = started(io.StringIO, 1000)
    steps(progress, clock, 4, 20.0)
    assert [line.split()[3] for line in out.getvalue().splitlines()] == ["2/235", "4/235"]


@pytest.mark.parametrize("stream", [io.StringIO, Terminal])
def test_quiet_prints_only_full_lines(stream, clock):
    out, progress = started(stream, quiet=True)
    steps(progress, clock, 100, 1.0)
    progress.line("warning: x")
    progress.close()
    assert out.getvalue() == "warning: x\n"


@pytest.mark.parametrize("kind", [Terminal, io.StringIO])
def test_a_stream_that_fails_is_left_alone(kind, clock):
    class Broken(kind):
        tries = 0

        def write(self, text: str) -> int:
            self.tries += 1
            raise BrokenPipeError

    stream, progress = started(Broken)
    steps(progress, clock, 50, 1.0)
    progress.line("done")
    progress.close()
    assert stream.tries == 1
