"""The desk where workers take plans and hand in results, one at a time."""

import collections
import contextlib
import threading

from tag_jax.training.bars import advance


class Desk:
    """The desk where workers take plans and hand in results, one at a time."""

    def __init__(self, plans, on_record, on_finish, bar, keep):
        self.finished, self._keep = {}, keep
        self.stopped = False
        self._compiling, self._lock = threading.Lock(), threading.Lock()
        self._waiting = collections.deque(plans)
        self._on_record, self._on_finish = on_record, on_finish
        self._bar, self._plans, self._done = bar, plans, 0

    def next_plan(self):
        """The next plan, or None if there is none left."""
        with self._lock:
            return self._waiting.popleft() if self._waiting else None

    @contextlib.contextmanager
    def compiling(self):
        """Keeps other workers waiting through a first chunk, which is compiled once for all."""
        with self._compiling:
            yield
        self._bar.set_description(_activity(self._plans, self._done))

    def hand_in_record(self, record, steps):
        """Tells of an evaluation after some more steps; whether a hook ends the network."""
        with self._lock:
            advance(self._bar, steps, record)
            return bool(self._on_record(record))

    def hand_in_network(self, network, steps_left):
        """Hands in a network that has finished, with steps that it did not need."""
        with self._lock:
            self._bar.total -= steps_left
            self._done += 1
            self._bar.set_description(_activity(self._plans, self._done))
            if self._keep:
                self.finished[network.plan.name] = network
            self._on_finish(network)


def _activity(plans, done):
    """The text of the progress bar once everything is compiled, when so many are done."""
    count = f'{len(plans)} network{"s" * (len(plans) > 1)}'
    measuring = any(plan.measures_affinity for plan in plans)
    finished = f' ({done} done)' if done else ''
    return f'training {count}' + ', measuring affinities' * measuring + finished
