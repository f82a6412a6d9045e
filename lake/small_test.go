package lake_test

import (
	"bytes"
	"fmt"
	"sync/atomic"
	"testing"

	"golang.org/x/sync/errgroup"

	"github.com/kluis-io/kluis/lake"
)

// smallFiles is how many files BenchmarkSmallRead has.
const smallFiles = 4000

// BenchmarkSmallRead reads 4 KiB files: the same one, whose rows are remembered, and
// each for the first time after a start.
func BenchmarkSmallRead(b *testing.B) {
	p, whole := start(b, b.TempDir()), b
	body := bytes.Repeat([]byte("x"), 4096)
	var g errgroup.Group
	g.SetLimit(32)
	for i := range smallFiles {
		g.Go(func() error {
			_, err := p.Put(b.Context(), p.caller, at(fmt.Sprintf("Files/f%d", i)), bytes.NewReader(body), int64(len(body)), lake.PutOptions{})
			return err
		})
	}
	if err := g.Wait(); err != nil {
		b.Fatal(err)
	}
	var next atomic.Int64
	for name, path := range map[string]func() string{
		"remembered": func() string { return "Files/f0" },
		"first":      func() string { return fmt.Sprintf("Files/f%d", next.Add(1)%smallFiles) },
	} {
		b.Run(name, func(b *testing.B) {
			again := func() { // as after a start: nothing is remembered
				p.db.Close()
				p.open(whole)
			}
			if name == "first" {
				next.Store(0)
				again()
			}
			for b.Loop() {
				got, err := p.get(b.Context(), path(), lake.Range{})
				if err != nil || len(got) != len(body) {
					b.Fatal(len(got), err)
				}
				if name == "first" && next.Load() == smallFiles {
					b.StopTimer()
					next.Store(0)
					again()
					b.StartTimer()
				}
			}
		})
	}
}
