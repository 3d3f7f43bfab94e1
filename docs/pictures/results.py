"""Reads the output of Go's benchmarks."""

import re
from dataclasses import dataclass, field
from statistics import median


@dataclass
class Results:
    machine: dict[str, str] = field(default_factory=dict)  # the lines "key: value", by key
    figures: dict[tuple[str, str], list[float]] = field(default_factory=dict)  # by benchmark and unit; one each round
    bounded: list[str] = field(default_factory=list)  # the rows of figures that have a bound, as Markdown

    def middle(self, benchmark, unit):
        return median(self.figures[benchmark, unit])

    def range(self, benchmark, unit):
        return min(self.figures[benchmark, unit]), max(self.figures[benchmark, unit])


def read(path):
    results = Results()
    for line in path.read_text().splitlines():
        if match := re.fullmatch(r"Benchmark(\S+?)(?:-\d+)?\s+\d+\s+(.+)", line):
            fields = match[2].split()
            for value, unit in zip(fields[::2], fields[1::2]):
                results.figures.setdefault((match[1].replace("_", " "), unit), []).append(float(value))
        elif match := re.fullmatch(r"([a-z][\w-]*): +(.+)", line):
            results.machine[match[1]] = match[2]
        elif re.fullmatch(r"\| [^|]+ \| [^|]+ \| [^|]+ \|", line) and "---" not in line:
            results.bounded.append(line)
    return results


def time(ns):
    """Gives nanoseconds as a time of two or three digits, with its unit."""
    for unit, size in (("s", 1e9), ("ms", 1e6), ("µs", 1e3)):
        if float(f"{ns:.3g}") >= size:
            return f"{digits(ns / size)} {unit}"
    return f"{digits(ns)} ns"


def digits(number):
    return f"{number:.0f}" if number >= 99.5 else f"{number:.1f}" if number >= 9.95 else f"{number:.2f}"
