"""Signals are noticed while somebody listens, and given back."""

from __future__ import annotations

import signal
import threading
from pathlib import Path

import pytest

from lra_bench.interrupt import Interrupt, Interrupted, sigterm_raises


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1, signal.SIGUSR2])
def test_signals_are_given_back(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with Interrupt() as interrupt:
        interrupt.check()
        signal.raise_signal(number)
        # A second one is not held back.
        assert signal.getsignal(number) == before
        with pytest.raises(Interrupted) as caught:
            interrupt.check()
        assert caught.value.signal_number == number
    assert signal.getsignal(number) == before


def test_a_second_kind_of_signal_is_noticed_as_well() -> None:
    """A cluster may send SIGUSR1, and SIGTERM before a step has ended."""
    with Interrupt() as interrupt:
        signal.raise_signal(signal.SIGUSR1)
        signal.raise_signal(signal.SIGTERM)
        assert interrupt.signal_number == signal.SIGUSR1


def test_a_file_can_ask_for_an_end(tmp_path: Path) -> None:
    times = iter([0.0, 0.0, 0.5, 1.0, 1.0])
    interrupt = Interrupt(tmp_path / "stop", lambda: next(times))
    interrupt.check()
    (tmp_path / "stop").touch()
    # It is not looked for at every step.
    interrupt.check()
    with pytest.raises(Interrupted) as caught:
        interrupt.check()
    assert caught.value.signal_number == signal.SIGTERM


def test_sigterm_ends_work_as_ctrl_c_does() -> None:
    before = signal.getsignal(signal.SIGTERM)

    def work() -> None:
        with sigterm_raises():
            signal.raise_signal(signal.SIGTERM)

    with pytest.raises(Interrupted) as caught:
        work()
    assert caught.value.signal_number == signal.SIGTERM
    assert signal.getsignal(signal.SIGTERM) == before


def test_no_error_that_a_sweep_would_go_on_after() -> None:
    assert not issubclass(Interrupted, Exception)


def test_in_another_thread_nobody_listens() -> None:
    before = signal.getsignal(signal.SIGTERM)
    seen = []

    def listen() -> None:
        with Interrupt():
            seen.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=listen)
    thread.start()
    thread.join()
    assert seen == [before]
