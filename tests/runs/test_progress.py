"""The progress line: what it says, when it moves, and that nothing breaks it."""

import io
from typing import Any

import pytest

from tinygan.runs.progress import Progress, duration, working


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True

    def screen(self) -> list[str]:
        """The lines that the terminal shows, after all carriage returns."""
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
    """A fake clock and a wide terminal for each test."""
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
        progress.update((0.8412, 1.284, 0.6249, 0.41), images, "epoch 3/100", f"step {step}/235")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 s"), (44.6, "45 s"), (59.4, "59 s"), (59.6, "1 min"), (12 * 60 + 20, "12 min"), (3599, "1 h"),
        (3600 * 3 + 20 * 60, "3 h 20 min"), (3600 * 30 + 59, "30 h 1 min"),
    ],
)  # fmt: skip
def test_times_read_as_a_person_would_say_them(seconds, text):
    assert duration(seconds) == text


def test_the_line_says_everything(clock):
    out, progress = started(total_steps=23_500, done_steps=470)
    steps(progress, clock, 120, 0.2)
    assert out.screen() == [
        "1 h 16 min left  2%  loss G 0.84 D 1.28  1,280 images/s  epoch 3/100  step 120/235  "
        "D(x) 0.62 D(G(z)) 0.41"
    ]


def test_the_time_left_appears_after_twenty_steps_of_this_process(clock):
    out, progress = started(total_steps=235, done_steps=100)
    steps(progress, clock, 19, 1.0)
    assert "left" not in out.getvalue()
    assert "256 images/s" in out.getvalue()
    steps(progress, clock, 1, 1.0, first=20)
    shown = out.screen()[0]
    assert shown.startswith("2 min left  51%  ") and "  256 images/s  " in shown  # 235 - 100 - 20 = 115 s


def test_a_slow_start_does_not_spoil_the_estimate(clock):
    out, progress = started(total_steps=120)
    steps(progress, clock, 1, 300.0)
    steps(progress, clock, 19, 0.5)
    assert out.screen()[0].startswith("50 s left") and "512 images/s" in out.screen()[0]


def test_the_estimate_follows_a_change_of_speed(clock):
    out, progress = started(total_steps=500)
    steps(progress, clock, 200, 1.0)
    steps(progress, clock, 100, 0.1, images=2)
    steps(progress, clock, 100, 0.1, images=2)
    progress.close()
    assert out.screen()[0].startswith("10 s left") and "  20 images/s" in out.screen()[0]


def test_slow_training_shows_a_decimal(clock):
    out, progress = started()
    steps(progress, clock, 3, 40.0)
    assert "  6.4 images/s  " in out.screen()[0]


def test_a_clock_that_stops_is_not_an_error(clock):
    out, progress = started()
    steps(progress, clock, 30, 0.0)
    progress.close()
    assert "images/s" not in out.getvalue()


def test_a_terminal_line_is_redrawn_ten_times_a_second_at_most(clock):
    out, progress = started(total_steps=10_000)
    steps(progress, clock, 1000, 1 / 128)  # 7.8 s
    assert 60 <= out.getvalue().count("\r") <= 80
    assert "\n" not in out.getvalue()


def test_closing_leaves_the_last_step_on_the_screen(clock):
    out, progress = started(total_steps=235)
    steps(progress, clock, 235, 1 / 512)
    assert "step 235/235" not in out.getvalue()
    progress.close()
    assert "step 235/235" in out.screen()[0]
    assert out.screen()[0].startswith("0 s left  100%")
    assert out.screen()[1:] == [""]
    progress.close()
    assert out.getvalue().count("\n") == 1


@pytest.mark.parametrize(
    ("columns", "shown"),
    [
        (80, "50 s left  50%  loss G 0.84 D 1.28  256 images/s  epoch 3/100  step 50/235"),
        (60, "50 s left  50%  loss G 0.84 D 1.28  256 images/s"),
        (40, "50 s left  50%  loss G 0.84 D 1.28"),
        (20, "50 s left  50%"),
        (5, "50%"),
        (3, ""),
    ],
)
def test_whole_fields_are_dropped_on_a_narrow_terminal(monkeypatch, clock, columns, shown):
    monkeypatch.setenv("COLUMNS", str(columns))
    out, progress = started()
    steps(progress, clock, 50, 1.0)
    assert out.screen() == [shown]
    assert max(len(part) for part in out.getvalue().split("\r")) < columns


def test_a_terminal_that_is_made_narrower_keeps_nothing_of_the_wrapped_line(monkeypatch, clock):
    out, progress = started()
    steps(progress, clock, 20, 1.0)
    assert len(out.screen()[0]) == 99
    monkeypatch.setenv("COLUMNS", "40")
    out.seek(0), out.truncate()
    steps(progress, clock, 2, 1.0, first=21)
    # The line now takes three rows of 40: the cursor moves up to the first, and everything below is erased.
    first, second = out.getvalue().split("\r")[1:]
    assert out.getvalue().startswith("\x1b[2A\r\x1b[J") and max(len(first), len(second)) < 40 + len("\x1b[J")


def test_a_dumb_terminal_gets_plain_lines(monkeypatch, clock):
    monkeypatch.setenv("TERM", "dumb")
    out, progress = started()
    steps(progress, clock, 20, 1.0)
    assert "\r" not in out.getvalue() and out.getvalue().startswith("1 min left  20%")


def test_a_pause_is_named_and_leaves_the_speed_as_it_was(clock):
    out, progress = started(total_steps=140)
    steps(progress, clock, 20, 1.0)
    with progress.pause("evaluating"):
        assert out.screen()[0].startswith("evaluating  14%  loss G 0.84")
        clock.now += 40
    steps(progress, clock, 20, 1.0, first=21)
    # 100 steps of a second each, plus a second of pauses per step, as before: 40 s in 40 steps.
    assert out.screen()[0].startswith("3 min left  28%") and "256 images/s" in out.screen()[0]


def test_a_pause_is_not_part_of_the_time_that_steps_take(clock):
    out, progress = started(total_steps=1040)
    steps(progress, clock, 20, 1.0)
    with progress.pause("saving"):
        clock.now += 4
    steps(progress, clock, 20, 1.0, first=21)
    assert progress.paused == 4 and out.screen()[0].startswith("18 min left")  # 1,000 x 1.1 s


def test_what_a_command_does_is_shown_while_it_lasts(monkeypatch, clock):
    out = Terminal()
    monkeypatch.setattr("sys.stderr", out)
    with working() as progress:
        progress.show("evaluating", "1 of 5")
        assert out.screen() == ["evaluating  1 of 5"]
        progress.line("found")
        assert out.screen() == ["found", "evaluating  1 of 5"]
    assert out.screen() == ["found", ""]


def test_without_a_terminal_a_command_says_every_few_seconds_what_it_does(monkeypatch, clock):
    out = io.StringIO()
    monkeypatch.setattr("sys.stderr", out)
    with working() as progress:
        for number in range(12):
            progress.show("evaluating", f"{number} of 12")
            clock.now += 2
    assert out.getvalue().splitlines() == [f"evaluating  {number} of 12" for number in (3, 6, 9)]


def test_an_answer_to_a_signal_bypasses_all_stream_objects(clock, capfd):
    out, progress = started()
    steps(progress, clock, 20, 1.0)
    progress.answer("saving")
    assert capfd.readouterr().err == "\nsaving\n"  # the moving line stays on the screen
    steps(progress, clock, 1, 1.0, first=21)
    progress.answer("saving")
    progress.close()
    progress.answer("again")
    assert capfd.readouterr().err == "\nsaving\nagain\n"


def test_a_shorter_line_leaves_nothing_of_the_longer_one(clock):
    out, progress = started()
    clock.now += 1
    progress.update((12345.0, 1.0, 0.5, 0.5), 0, "epoch 1/1", "step 100/100")
    clock.now += 1
    progress.update((1.0, 1.0, 0.5, 0.5), 0, "epoch 1/1", "step 1/100")
    assert out.screen() == [
        "2%  loss G 1.00 D 1.00  0.0 images/s  epoch 1/1  step 1/100  D(x) 0.50 D(G(z)) 0.50"
    ]


def test_a_full_line_is_printed_above_the_moving_one(clock):
    out, progress = started()
    progress.line("start")
    steps(progress, clock, 2, 1.0)
    progress.line("saved")
    screen = out.screen()
    assert screen[:2] == ["start", "saved"]
    assert screen[2].startswith("2%  loss G") and "step 2/235" in screen[2]
    progress.close()
    progress.line("end")
    assert out.screen()[3:] == ["end", ""]


def test_without_a_terminal_plain_lines_are_printed_now_and_then(clock):
    out, progress = started(io.StringIO, 1000)
    steps(progress, clock, 235, 1.0)
    progress.line("saved")
    progress.close()
    assert "\r" not in out.getvalue()
    lines = out.getvalue().splitlines()
    assert [line.split("step ")[1].split()[0] for line in lines[:-1]] == [
        f"{step}/235" for step in (20, 50, 80, 110, 140, 170, 200, 230)
    ]
    assert lines[0].startswith("16 min left  2%") and "256 images/s" in lines[0]
    assert lines[-1] == "saved"


def test_slow_steps_are_reported_before_the_twentieth(clock):
    out, progress = started(io.StringIO, 1000)
    steps(progress, clock, 4, 20.0)
    assert [line.split("step ")[1].split()[0] for line in out.getvalue().splitlines()] == ["2/235", "4/235"]


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
