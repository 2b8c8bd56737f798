"""Asking others for something, all at once, without ever waiting for one longer than is good."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Final

_STUCK: Final = 8
"""Attempts that never came back, above which somebody is left alone until one does."""


class Attempts:
    """For one thread, which makes them; each runs in a thread of its own that nobody waits for at the end."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: Counter[str] = Counter()

    def make(self, tasks: Mapping[str, Callable[[], bool]], seconds: float) -> dict[str, str]:
        """Do all of them within so many seconds; by name, what was not done, and why."""
        results: dict[str, str] = {}
        begun = []
        for name, task in tasks.items():
            if self._open[name] >= _STUCK:
                results[name] = "earlier attempts still hang"
                continue
            results[name] = "did not answer in time"
            thread = threading.Thread(target=self._one, args=(name, task, results), daemon=True, name="attempt")
            thread.start()
            begun.append(thread)
        end = time.monotonic() + seconds
        for thread in begun:
            thread.join(max(0.0, end - time.monotonic()))
        with self._lock:
            return {name: why for name, why in results.items() if why}

    def _one(self, name: str, task: Callable[[], bool], results: dict[str, str]) -> None:
        with self._lock:
            self._open[name] += 1
        try:
            done = task()
        except Exception:  # noqa: BLE001 - whatever it is, it was not done; its text may hold a URL
            done = False
        with self._lock:
            self._open[name] -= 1
            results[name] = "" if done else "was refused"
