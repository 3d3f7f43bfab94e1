package benchmarks

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
)

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

// figures are those that a run found and that have a bound.
type figures []comparison

type comparison struct{ what, figure, bound string }

var found figures

// compare notes a figure that has a bound.
func (f *figures) compare(what string, figure float64, bound string) {
	text := fmt.Sprintf("%.2f", figure)
	if !strings.Contains(bound, ".") {
		text = fmt.Sprintf("%g", figure)
	}
	*f = append(*f, comparison{what, text, bound})
}

// print writes the figures as Markdown.
func (f figures) print(w io.Writer) {
	if len(f) == 0 {
		return
	}
	fmt.Fprint(w, "\n| | found | bound |\n| --- | --- | --- |\n")
	for _, c := range f {
		fmt.Fprintf(w, "| %s | %s | %s |\n", c.what, c.figure, c.bound)
	}
	fmt.Fprintln(w)
}
