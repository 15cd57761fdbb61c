"""A small registry of metrics in Prometheus' text format (version 0.0.4), with a bound on the number of series.

Our own 150 lines instead of a dependency: counters, gauges and histograms are all that we need. Labels hold values
from closed sets (route templates, states, issuer names), never what a client sent; the bound is the net below that.
"""

import math
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
MOST_SERIES = 1000  # per metric; label values beyond them are counted together as "other"
OTHER = "other"
# Seconds: from a cached answer to a POST that waits its whole 20 s for an issuance.
SECONDS_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 25.0, 60.0)

Labels = tuple[str, ...]


@dataclass(slots=True)
class _Family:
    """What all kinds of metrics share: a name, label names, and series by label values. Safe for several threads."""

    name: str
    meaning: str
    labels: Labels
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def _key(self, values: Labels, *, known: Sequence[Labels] | dict[Labels, float]) -> Labels:
        if len(values) != len(self.labels):
            raise ValueError(f"{self.name} has the labels {self.labels}, but {len(values)} values were given")
        if values in known or len(known) < MOST_SERIES:
            return values
        return (OTHER,) * len(values)

    def _head(self, kind: str) -> list[str]:
        return [f"# HELP {self.name} {_escape_help(self.meaning)}", f"# TYPE {self.name} {kind}"]


@dataclass(slots=True)
class Counter(_Family):
    """A number that only grows."""

    _values: dict[Labels, float] = field(default_factory=dict)

    def add(self, *labels: str, amount: float = 1.0) -> None:
        """Count. labels: one value for each label name, in order."""
        if amount < 0:
            raise ValueError(f"{self.name} only grows")
        with self._lock:
            key = self._key(labels, known=self._values)
            self._values[key] = self._values.get(key, 0.0) + amount

    def value(self, *labels: str) -> float:
        """Return the present number, 0 for a series that nothing was counted in."""
        with self._lock:
            return self._values.get(labels, 0.0)

    def lines(self) -> list[str]:
        with self._lock:
            values = sorted(self._values.items())
        return [*self._head("counter"), *(_line(self.name, self.labels, key, number) for key, number in values)]


@dataclass(slots=True)
class Gauge(_Family):
    """A number that goes up and down."""

    _values: dict[Labels, float] = field(default_factory=dict)

    def set(self, *labels: str, number: float) -> None:
        with self._lock:
            self._values[self._key(labels, known=self._values)] = number

    def add(self, *labels: str, amount: float) -> None:
        with self._lock:
            key = self._key(labels, known=self._values)
            self._values[key] = self._values.get(key, 0.0) + amount

    def replace(self, numbers: Mapping[Labels, float]) -> None:
        """Make these the only series; what is counted together as "other" is added up."""
        values: dict[Labels, float] = {}
        for labels, number in sorted(numbers.items()):
            key = self._key(labels, known=values)
            values[key] = values.get(key, 0.0) + number
        with self._lock:
            self._values = values

    def lines(self) -> list[str]:
        with self._lock:
            values = sorted(self._values.items())
        return [*self._head("gauge"), *(_line(self.name, self.labels, key, number) for key, number in values)]


@dataclass(slots=True)
class _Distribution:
    counts: list[int]
    total: float = 0.0


@dataclass(slots=True)
class Histogram(_Family):
    """A distribution over fixed upper bounds."""

    bounds: tuple[float, ...] = SECONDS_BUCKETS
    _series: dict[Labels, _Distribution] = field(default_factory=dict)

    def observe(self, *labels: str, amount: float) -> None:
        """Count one observation."""
        place = next((i for i, bound in enumerate(self.bounds) if amount <= bound), len(self.bounds))
        with self._lock:
            key = self._key(labels, known=list(self._series) if len(self._series) >= MOST_SERIES else ())
            series = self._series.setdefault(key, _Distribution([0] * (len(self.bounds) + 1)))
            series.counts[place] += 1
            series.total += amount

    def lines(self) -> list[str]:
        with self._lock:
            copies = sorted((key, list(s.counts), s.total) for key, s in self._series.items())
        out = self._head("histogram")
        for key, counts, total in copies:
            below = 0
            for bound, count in zip((*self.bounds, math.inf), counts, strict=True):
                below += count
                out.append(_line(f"{self.name}_bucket", (*self.labels, "le"), (*key, _number(bound)), below))
            out.append(_line(f"{self.name}_sum", self.labels, key, total))
            out.append(_line(f"{self.name}_count", self.labels, key, below))
        return out


Metric = Counter | Gauge | Histogram


class Metrics:
    """The registry of one process. Asking again for a name gives the same metric."""

    def __init__(self) -> None:
        self._metrics: dict[str, Metric] = {}
        self._lock = threading.Lock()

    def counter(self, name: str, *, meaning: str, labels: Labels = ()) -> Counter:
        """Return the counter of this name; `name` ends in `_total`."""
        found = self._register(Counter(name, meaning, labels))
        assert isinstance(found, Counter)
        return found

    def gauge(self, name: str, *, meaning: str, labels: Labels = ()) -> Gauge:
        """Return the gauge of this name."""
        found = self._register(Gauge(name, meaning, labels))
        assert isinstance(found, Gauge)
        return found

    def histogram(
        self, name: str, *, meaning: str, labels: Labels = (), bounds: tuple[float, ...] = SECONDS_BUCKETS
    ) -> Histogram:
        """Return the histogram of this name; `bounds` ascend, `name` ends in its unit (`_seconds`)."""
        found = self._register(Histogram(name, meaning, labels, bounds=bounds))
        assert isinstance(found, Histogram)
        return found

    def render(self) -> str:
        """Return all metrics in the text format, by name."""
        with self._lock:
            metrics = sorted(self._metrics.items())
        return "".join(f"{line}\n" for _, metric in metrics for line in metric.lines())

    def _register(self, metric: Metric) -> Metric:
        with self._lock:
            found = self._metrics.setdefault(metric.name, metric)
        if type(found) is not type(metric) or found.labels != metric.labels:
            raise ValueError(f"the metric {metric.name} is registered already in another form")
        return found


def _line(name: str, labels: Labels, values: Labels, number: float) -> str:
    pairs = ",".join(f'{label}="{_escape(value)}"' for label, value in zip(labels, values, strict=True))
    return f"{name}{{{pairs}}} {_number(number)}" if pairs else f"{name} {_number(number)}"


def _number(number: float) -> str:
    if number == math.inf:
        return "+Inf"
    return str(int(number)) if number == int(number) else repr(float(number))


def _escape(value: str) -> str:
    return value.replace("\\", "\\\\").replace("\n", "\\n").replace('"', '\\"')


def _escape_help(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n")
