//go:build failpoints

package failpoint

import (
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
)

// Enabled says whether this build has its failpoints.
const Enabled = true

type arming struct {
	action string
	from   int64
}

var (
	mu    sync.Mutex
	names []string
	armed = parse(os.Getenv("KLUIS_FAILPOINTS"))
	trace = os.Getenv("KLUIS_FAILPOINTS_TRACE")
	seen  = map[string]bool{} // that are in the trace
)

func parse(s string) map[string]arming {
	m := map[string]arming{}
	for one := range strings.SplitSeq(s, ";") {
		name, action, ok := strings.Cut(one, "=")
		if !ok {
			continue
		}
		a := arming{action: action, from: 1}
		if act, n, ok := strings.Cut(action, ":"); ok {
			from, err := strconv.ParseInt(n, 10, 64)
			if err != nil {
				panic("KLUIS_FAILPOINTS: " + one)
			}
			a = arming{action: act, from: from}
		}
		m[name] = a
	}
	return m
}

// A Point is one named place.
type Point struct {
	name   string
	passed *atomic.Int64
}

// New declares a point.
func New(name string) Point {
	mu.Lock()
	defer mu.Unlock()
	if slices.Contains(names, name) {
		panic("failpoint declared twice: " + name)
	}
	names = append(names, name)
	return Point{name: name, passed: new(atomic.Int64)}
}

// traced adds the point to the trace.
func (p Point) traced() {
	mu.Lock()
	defer mu.Unlock()
	if seen[p.name] {
		return
	}
	seen[p.name] = true
	f, err := os.OpenFile(trace, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err == nil {
		_, err = fmt.Fprintln(f, p.name)
		f.Close()
	}
	if err != nil {
		panic("KLUIS_FAILPOINTS_TRACE: " + err.Error())
	}
}

// Hit passes the point, and does what it is armed for.
func (p Point) Hit() error {
	if trace != "" {
		p.traced()
	}
	a, ok := armed[p.name]
	if !ok {
		return nil
	}
	n := p.passed.Add(1)
	if n < a.from || a.action == "once" && n > a.from {
		return nil
	}
	switch a.action {
	case "exit":
		fmt.Fprintln(os.Stderr, "failpoint", p.name, "exits")
		os.Exit(137)
	case "error", "once":
		return fmt.Errorf("failpoint %s", p.name)
	case "pause":
		fmt.Fprintln(os.Stderr, "failpoint", p.name, "pauses")
		select {}
	}
	return nil
}

// Names lists the declared points.
func Names() []string {
	mu.Lock()
	defer mu.Unlock()
	return slices.Sorted(slices.Values(names))
}
