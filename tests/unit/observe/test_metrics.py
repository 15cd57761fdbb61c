"""The text format of metrics, and its bound."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from certorbit.observe.metrics import MOST_SERIES, Metrics


def test_a_counter_is_rendered_with_its_labels_escaped() -> None:
    metrics = Metrics()
    counter = metrics.counter("a_total", meaning="Things.\nMany.", labels=("name",))
    counter.add('x"\\\n')
    counter.add("y", amount=2.5)
    assert metrics.render() == (
        '# HELP a_total Things.\\nMany.\n# TYPE a_total counter\na_total{name="x\\"\\\\\\n"} 1\na_total{name="y"} 2.5\n'
    )


def test_a_gauge_goes_both_ways() -> None:
    metrics = Metrics()
    gauge = metrics.gauge("depth", meaning="Depth.")
    gauge.set(number=5)
    gauge.add(amount=-7)
    assert metrics.render().splitlines()[-1] == "depth -2"


def test_a_gauge_that_is_replaced_has_the_new_series_alone() -> None:
    metrics = Metrics()
    gauge = metrics.gauge("depth", meaning="Depth.", labels=("where",))
    gauge.set("a", number=5)
    gauge.replace({("b",): 1, ("c",): 2})
    assert metrics.render().splitlines()[2:] == ['depth{where="b"} 1', 'depth{where="c"} 2']
    gauge.replace({(f"{number:05}",): 1 for number in range(MOST_SERIES + 7)})
    lines = metrics.render().splitlines()[2:]
    assert (len(lines), lines[-1]) == (MOST_SERIES + 1, 'depth{where="other"} 7')
    gauge.replace({})
    assert metrics.render().splitlines()[2:] == []


def test_a_histogram_counts_cumulatively() -> None:
    metrics = Metrics()
    histogram = metrics.histogram("t_seconds", meaning="Time.", labels=("r",), bounds=(0.1, 1.0))
    for amount in (0.05, 0.1, 0.5, 7.0):
        histogram.observe("a", amount=amount)
    assert metrics.render().splitlines()[2:] == [
        't_seconds_bucket{r="a",le="0.1"} 2',
        't_seconds_bucket{r="a",le="1"} 3',
        't_seconds_bucket{r="a",le="+Inf"} 4',
        't_seconds_sum{r="a"} 7.65',
        't_seconds_count{r="a"} 4',
    ]


def test_series_are_bounded_and_nothing_is_lost() -> None:
    metrics = Metrics()
    counter = metrics.counter("a_total", meaning="A.", labels=("x", "y"))
    histogram = metrics.histogram("b_seconds", meaning="B.", labels=("x",), bounds=(1.0,))
    for number in range(MOST_SERIES + 50):
        counter.add(str(number), "y")
        histogram.observe(str(number), amount=0.5)
    assert counter.value("other", "other") == 50
    assert counter.value("0", "y") == 1
    lines = metrics.render().splitlines()
    assert sum(line.startswith("a_total{") for line in lines) == MOST_SERIES + 1
    assert 'b_seconds_count{x="other"} 50' in lines


def test_a_name_gives_the_same_metric_or_refuses_another_form() -> None:
    metrics = Metrics()
    first = metrics.counter("a_total", meaning="A.", labels=("x",))
    assert metrics.counter("a_total", meaning="A.", labels=("x",)) is first
    with pytest.raises(ValueError, match="another form"):
        metrics.counter("a_total", meaning="A.", labels=("y",))
    with pytest.raises(ValueError, match="another form"):
        metrics.gauge("a_total", meaning="A.", labels=("x",))


def test_wrong_use_is_refused() -> None:
    counter = Metrics().counter("a_total", meaning="A.", labels=("x",))
    with pytest.raises(ValueError, match="labels"):
        counter.add()
    with pytest.raises(ValueError, match="grows"):
        counter.add("x", amount=-1)


def test_threads_lose_no_count() -> None:
    counter = Metrics().counter("a_total", meaning="A.")

    def count_a_thousand() -> None:
        for _ in range(1000):
            counter.add()

    with ThreadPoolExecutor(4) as pool:
        for _ in range(4):
            pool.submit(count_a_thousand)
    assert counter.value() == 4000
