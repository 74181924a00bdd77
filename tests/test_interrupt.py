"""Signals are noticed while somebody listens, and given back."""

from __future__ import annotations

import signal
import threading

import pytest

from lra_bench.interrupt import Interrupt, Interrupted, sigterm_raises


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
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
