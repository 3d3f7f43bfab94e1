package benchmarks

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
)

// perOperation returns the time that an iteration of a benchmark took.
func perOperation(b *testing.B) time.Duration { return b.Elapsed() / time.Duration(b.N) }

func allocations(f func()) float64 { return testing.AllocsPerRun(20, f) }

// interleaved is the times of two operations that take turns, so that whatever
// else the machine does slows both.
type interleaved struct{ ratios []float64 }

// add runs both, each first every other time.
func (p *interleaved) add(ours, theirs func()) {
	var our, their time.Duration
	if len(p.ratios)%2 == 0 {
		our, their = clock(ours), clock(theirs)
	} else {
		their, our = clock(theirs), clock(ours)
	}
	p.ratios = append(p.ratios, float64(our)/float64(their))
}

// ratio returns the median of the ratios of the times.
func (p *interleaved) ratio() float64 {
	sorted := slices.Sorted(slices.Values(p.ratios))
	middle := len(sorted) / 2
	return (sorted[middle] + sorted[(len(sorted)-1)/2]) / 2
}

func clock(f func()) time.Duration {
	start := time.Now()
	f()
	return time.Since(start)
}

// figures is what a run found, for the README.
type figures struct {
	operations  []string                     // in the order of the benchmarks
	cells       map[string]map[string]string // by operation and store
	comparisons []comparison
}

type comparison struct{ what, figure, bound string }

var found = figures{cells: make(map[string]map[string]string)}

// operation notes what an operation on a store takes.
func (f *figures) operation(name, store string, took time.Duration, allocs float64) {
	if f.cells[name] == nil {
		f.operations = append(f.operations, name)
		f.cells[name] = make(map[string]string)
	}
	f.cells[name][store] = fmt.Sprintf("%s, %.0f allocs", short(took), allocs)
}

// compare notes a figure that has a bound.
func (f *figures) compare(what string, figure float64, bound string) {
	text := fmt.Sprintf("%.2f", figure)
	if !strings.Contains(bound, ".") {
		text = fmt.Sprintf("%g", figure)
	}
	f.comparisons = append(f.comparisons, comparison{what, text, bound})
}

// print writes the figures as Markdown.
func (f *figures) print(w io.Writer) {
	if len(f.operations)+len(f.comparisons) == 0 {
		return
	}
	fmt.Fprintf(w, "\nOne run of the [benchmarks](benchmarks), on %s, %d cores, %s, %s/%s:\n", processor(), runtime.NumCPU(), runtime.Version(), runtime.GOOS, runtime.GOARCH)
	if len(f.operations) > 0 {
		fmt.Fprint(w, "\n| |")
		for _, store := range stores {
			fmt.Fprintf(w, " %s |", store.name)
		}
		fmt.Fprintf(w, "\n| --- |%s\n", strings.Repeat(" --- |", len(stores)))
		for _, name := range f.operations {
			fmt.Fprintf(w, "| %s |", name)
			for _, store := range stores {
				fmt.Fprintf(w, " %s |", f.cells[name][store.name])
			}
			fmt.Fprintln(w)
		}
	}
	if len(f.comparisons) > 0 {
		fmt.Fprint(w, "\n| | found | bound |\n| --- | --- | --- |\n")
		for _, c := range f.comparisons {
			fmt.Fprintf(w, "| %s | %s | %s |\n", c.what, c.figure, c.bound)
		}
	}
	fmt.Fprintln(w)
}

// short gives a duration with three digits.
func short(d time.Duration) string {
	unit := time.Nanosecond
	for d/unit >= 1000 {
		unit *= 10
	}
	return d.Round(unit).String()
}

// processor names the machine's processor.
func processor() string {
	file, err := os.Open("/proc/cpuinfo")
	if err != nil {
		return "an unknown processor"
	}
	defer file.Close()
	for lines := bufio.NewScanner(file); lines.Scan(); {
		if name, value, ok := strings.Cut(lines.Text(), ":"); ok && strings.TrimSpace(name) == "model name" {
			return strings.TrimSpace(value)
		}
	}
	return "an unknown processor"
}
