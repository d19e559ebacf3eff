"""Progress: a bar that moves on a terminal alone, lines elsewhere, silence on other ranks."""

from __future__ import annotations

import io

import pytest

from prism.runs.progress import Bar, Lines, duration, progress


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_elsewhere_a_line_every_few_seconds():
    stream, now = io.StringIO(), [0.0]
    lines = Lines("training", 40, "step", stream, clock=lambda: now[0])
    for step in range(1, 41):
        now[0] = step * 0.5
        lines.advance(1, f"loss {step}" if step % 10 == 0 else "")
    lines.close()
    assert stream.getvalue().splitlines() == [
        "training: 10/40 steps, 2 steps/s, 15 s left, loss 10",
        "training: 20/40 steps, 2 steps/s, 10 s left, loss 20",
        "training: 30/40 steps, 2 steps/s, 5 s left, loss 30",
        "training: 40/40 steps, 2 steps/s, took 20 s, loss 40",
    ]


def test_what_was_done_before_does_not_count_in_the_rate():
    stream, now = io.StringIO(), [0.0]
    lines = Lines("training", 100, "step", stream, 90, clock=lambda: now[0])
    now[0] = 5.0
    lines.advance(5)
    assert stream.getvalue() == "training: 95/100 steps, 1 steps/s, 5 s left\n"


@pytest.mark.parametrize("environ", [{"NO_COLOR": "1"}, {"CI": "true"}, {"TERM": "dumb"}])
def test_a_terminal_that_wants_no_colour_gets_lines(environ):
    stream = Terminal()
    with progress("reading", total=2, unit="file", stream=stream, environ=environ) as bar:
        bar.advance(2)
    assert stream.getvalue().startswith("reading: 2/2 files") and "\x1b" not in stream.getvalue()


def test_a_terminal_gets_a_bar_that_ends_full():
    stream = Terminal()
    with progress("reading", total=3, unit="file", stream=stream, environ={"TERM": "xterm"}) as bar:
        for _ in range(3):
            bar.advance(1, "a.bin")
    assert "reading" in stream.getvalue() and "3/3" in stream.getvalue() and "a.bin" in stream.getvalue()


def test_other_ranks_and_unknown_totals():
    stream = io.StringIO()
    with progress("training", total=3, rank=1, stream=stream) as bar:
        bar.advance(3)
    assert stream.getvalue() == ""
    with progress("training", total=None, stream=stream) as bar:
        bar.advance(3)
    assert stream.getvalue().startswith("training: 3 steps")


def test_a_fast_loop_tells_the_display_ten_times_a_second():
    class Display:
        calls, advanced = 0, 0

        def update(self, task, *, advance, text):
            self.calls, self.advanced = self.calls + 1, self.advanced + advance

    display, now = Display(), [0.0]
    bar = Bar(display, 0, clock=lambda: now[0])
    for step in range(1000):
        now[0] = step / 1000
        bar.advance()
    bar.flush()
    assert display.advanced == 1000 and display.calls <= 12


def test_durations():
    assert [duration(s) for s in (0.4, 59, 185, 7620)] == ["0 s", "59 s", "3 min 05 s", "2 h 07 min"]
