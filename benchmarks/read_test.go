package benchmarks

import (
	"testing"

	"github.com/go-joe/joe"
)

func BenchmarkGet(b *testing.B) {
	each(b, func(b *testing.B, memory joe.Memory) {
		b.ReportAllocs()
		name := key(keys / 2)
		for b.Loop() {
			if _, ok, err := memory.Get(name); !ok || err != nil {
				b.Fatal(ok, err)
			}
		}
	})
}

func BenchmarkKeys(b *testing.B) {
	each(b, func(b *testing.B, memory joe.Memory) {
		if _, ok := memory.(opsdroidMemory); ok {
			b.Skip("opsdroid's databases have no list of keys")
		}
		b.ReportAllocs()
		for b.Loop() {
			if names, err := memory.Keys(); len(names) != keys || err != nil {
				b.Fatal(len(names), err)
			}
		}
	})
}

// BenchmarkReadRequests counts the requests that reads of a loaded room make.
func BenchmarkReadRequests(b *testing.B) {
	url, requests := counter(b)
	memory, _, _ := openFilled(b, url)
	before := requests()
	for b.Loop() {
		if _, ok, err := memory.Get(key(keys / 2)); !ok || err != nil {
			b.Fatal(ok, err)
		}
		if names, err := memory.Keys(); len(names) != keys || err != nil {
			b.Fatal(len(names), err)
		}
	}
	b.ReportMetric(float64(requests()-before), "requests")
	found.compare("requests of all Gets and Keys", float64(requests()-before), "0")
}
