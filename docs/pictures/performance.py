"""Makes the plots and the tables of docs/performance.md from benchmarks/results.txt."""

import re
from pathlib import Path

import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plt
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from results import read, time

root = Path(__file__).resolve().parents[2]
page, images = root / "docs/performance.md", root / "docs/images"

plt.rcParams |= {
    "svg.hashsalt": "matrix-memory",  # or each run names what it draws in another way
    "svg.fonttype": "none",  # text, not paths: small, and the reader's own font
    "font.sans-serif": ["DejaVu Sans", "Helvetica", "Arial", "sans-serif"],  # matplotlib brings the first
    "font.size": 10,
    "figure.constrained_layout.w_pad": 0.15,  # inches
    "figure.constrained_layout.h_pad": 0.15,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": "#8c959f",
    "axes.titlelocation": "left",
    "axes.titlesize": 11,
    "axes.titleweight": "bold",
    "xtick.color": "#57606a",
    "ytick.color": "#57606a",
    "text.color": "#24292f",
    "axes.labelcolor": "#57606a",
}
ours, journal, other, grid = "#0b6bcb", "#1a7f37", "#8c959f", "#e6e9ec"

# The stores as the benchmarks name them, in words.
stores = {
    "Matrix": ("Matrix", ours),
    "Matrix, journal": ("Matrix with a journal", journal),
    "Bolt": ("Bolt", other),
    "file": ("file", other),
    "Redis": ("Redis", other),
    "opsdroid": ("opsdroid, Matrix", other),
}
operations = {
    "Get": "Get, of 100 keys with 100 bytes each",
    "Set": "Set, of 100 keys with 100 bytes each",
    "Keys": "Keys, of 100 keys",
}
layouts = {"dictionary": "One dictionary", "per-key": "A state event for each key"}
writers = {  # what writes, with its colour and the marker of its line
    "Set": ("Set", ours, "o"),
    "request": ("the same request, made with net/http alone", other, "s"),
    "Set-with-journal": ("Set with a journal", journal, "D"),
}
counts = [10, 30, 100, 300, 1000]


def main():
    results = read(root / "benchmarks/results.txt")
    images.mkdir(exist_ok=True)
    save(plot_stores(results), "set-and-get")
    save(plot_growth(results), "growth")
    fill("stores", [*caution(results), *table_of_stores(results)])
    fill("growth", table_of_growth(results))
    if results.bounded:  # else the page keeps those of another run, and says so
        fill("bounds", ["| | found | bound |", "| --- | --- | --- |", *results.bounded])
    fill("machine", table_of_machine(results))


def save(figure, name):
    figure.savefig(images / f"{name}.svg", facecolor="white", metadata={"Date": None, "Creator": None})


def time_axis(axis, lowest, highest):
    """Makes a logarithmic axis of nanoseconds, with a line for each power of ten."""
    axis.axes.set(**{f"{axis.axis_name}scale": "log", f"{axis.axis_name}lim": (lowest, highest)})
    axis.set_major_locator(FixedLocator([10.0**n for n in range(12) if lowest <= 10**n <= highest]))
    axis.set_minor_locator(NullLocator())
    axis.set_major_formatter(FuncFormatter(lambda ns, _: re.sub(r"\.0+ ", " ", time(ns))))
    axis.axes.grid(axis=axis.axis_name, color=grid)
    axis.axes.set_axisbelow(True)


def plot_stores(results):
    figure, plots = plt.subplots(2, 1, figsize=(8, 5.6), sharex=True, layout="constrained")
    for plot, operation in zip(plots, ("Get", "Set")):
        plot.set_title(operations[operation])
        for row, (store, (words, colour)) in enumerate(stores.items()):
            middle = results.middle(f"{operation}/{store}", "ns/op")
            low, high = results.range(f"{operation}/{store}", "ns/op")
            plot.barh(row, middle, color=colour, height=0.62)
            plot.plot([low, high], [row, row], color="#24292f", linewidth=1, marker="|", markersize=5)
            plot.annotate(time(middle), (high, row), (6, 0), textcoords="offset points", va="center")
        plot.set_yticks(range(len(stores)), [words for words, _ in stores.values()])
        plot.tick_params(axis="y", length=0, labelcolor="#24292f")
        plot.invert_yaxis()
        time_axis(plot.xaxis, 1, 1e9)
    plots[1].set_xlabel("time of one call; the axis is logarithmic; in black, the fastest round to the slowest")
    return figure


def plot_growth(results):
    figure, plots = plt.subplots(1, 2, figsize=(8, 4.2), sharey=True, layout="constrained")
    middles = [results.middle(*key) for key in results.figures if key[0].startswith("Growth/")]
    for plot, (layout, title) in zip(plots, layouts.items()):
        plot.set_title(title)
        for by, (words, colour, marker) in writers.items():
            names = [growth(layout, by, count) for count in counts]
            low, high = zip(*(results.range(name, "ns/op") for name in names))
            plot.fill_between(counts, low, high, color=colour, alpha=0.15, linewidth=0)
            plot.plot(counts, [results.middle(name, "ns/op") for name in names], color=colour, marker=marker, markersize=5, label=words)
        plot.set_xscale("log")
        plot.set_xticks(counts, counts)
        plot.xaxis.set_minor_locator(NullLocator())
        plot.set_xlabel("keys in the memory, with 40 bytes each")
        time_axis(plot.yaxis, min(middles) / 4, max(middles) * 4)
    plots[0].set_ylabel("time of one call")
    handles, words = plots[0].get_legend_handles_labels()
    figure.legend(handles, words, loc="outside lower center", ncols=3, frameon=False)
    return figure


def growth(layout, by, count):
    return f"Growth/layout={layout}/by={by}/keys={count}"


def caution(results):
    if float(results.machine["load"]) > int(results.machine["cores"]) / 2:
        yield "**Other programs kept the processors busy during this run. Everything took several times what it takes on a machine that does"
        yield "nothing else, and a difference of less than a factor of two may be chance.**"
        yield ""


def table_of_stores(results):
    yield "| | " + " | ".join(words for words, _ in stores.values()) + " |"
    yield "| --- |" + " --- |" * len(stores)
    for operation, words in operations.items():
        cells = []
        for store in stores:
            name = f"{operation}/{store}"
            if (name, "ns/op") not in results.figures:
                cells.append("has none")
                continue
            low, high = results.range(name, "ns/op")
            cells.append(f"**{time(results.middle(name, 'ns/op'))}**<br>{time(low)} … {time(high)}<br>{number(results.middle(name, 'allocs/op'), 'allocation')}")
        yield f"| {words} | " + " | ".join(cells) + " |"


def number(count, what):
    return f"{count:.0f} {what}" + "s" * (count != 1)


def table_of_growth(results):
    yield "| | " + " | ".join(f"{count} keys" for count in counts) + " |"
    yield "| --- |" + " --- |" * len(counts)
    for layout, title in layouts.items():
        for by, (words, *_) in writers.items():
            yield f"| {title}: {words} | " + " | ".join(time(results.middle(growth(layout, by, count), "ns/op")) for count in counts) + " |"


def table_of_machine(results):
    known = results.machine
    yield "| | |"
    yield "| --- | --- |"
    yield f"| processor | {known['cpu']}, {known['cores']} cores |"
    yield f"| main memory | {known['memory']} |"
    yield f"| system | {known['system']}, {known['goarch']} |"
    yield f"| disk | {known['disk']} |"
    yield f"| Go | {known['go'].removeprefix('go')} |"
    yield f"| homeserver | Dendrite {known['dendrite'].removeprefix('v')} |"
    yield f"| compared with | Redis {known['redis']}; bbolt {known['bolt'].removeprefix('v')}; file-memory {known['file-memory'].removeprefix('v')}; opsdroid {known['opsdroid']} |"
    yield f"| what else it did | load average {known['load']} before the run |"
    yield f"| rounds | {known['rounds']} |"


def fill(name, lines):
    """Puts lines between the marks of that name in the page."""
    begin, end = f"<!-- {name}: made by docs/pictures/make -->\n", f"<!-- end of {name} -->"
    text = page.read_text()
    before, found, rest = text.partition(begin)
    _, ended, after = rest.partition(end)
    if not found or not ended:
        raise SystemExit(f"{page} has no marks for {name!r}: {begin.strip()} … {end}")
    page.write_text(before + begin + "\n" + "\n".join(lines) + "\n\n" + end + after)


main()
