package remote_test

import (
	"testing"

	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/objstore/objtest"
	"github.com/kluis-io/kluis/objstore/remote"
)

func TestRecords(t *testing.T) {
	objtest.RunRecords(t, func(*testing.T) func() objtest.Records {
		m := newMemory()
		return func() objtest.Records { return remote.New(m, "p").Records("records") }
	})
}

// A prefix is the same however it was put together.
func TestRecordsBelow(t *testing.T) {
	m := newMemory()
	whole := remote.New(m, "logs/one").Records("")
	if err := remote.New(m, "logs/").Records("one/").Create(t.Context(), "checkpoint", []byte("record")); err != nil {
		t.Fatal(err)
	}
	if got, err := whole.Read(t.Context(), "checkpoint"); string(got) != "record" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
	if got, err := remote.New(m, "").Records("").Read(t.Context(), "logs/one/checkpoint"); string(got) != "record" || err != nil {
		t.Errorf("without a prefix: %q, %v", got, err)
	}
}

// A record whose writing or reading was disturbed is the one that was written.
func TestRecordsDisturbed(t *testing.T) {
	for _, v := range []verdict{lost, cut} {
		m := newMemory()
		r := remote.New(m, "").Records("records")
		m.decide = func(_ string, n int) verdict {
			if n == 1 || n == 2 && v == lost { // the first has nothing to lose
				return v
			}
			return works
		}
		if err := r.Replace(t.Context(), "a", func([]byte) ([]byte, error) { return []byte("record"), nil }); err != nil {
			t.Errorf("%d: %v", v, err)
		}
		m.decide = func(_ string, n int) verdict {
			if n%2 == 1 {
				return v
			}
			return works
		}
		m.asked()
		if got, err := r.Read(t.Context(), "a"); string(got) != "record" || err != nil {
			t.Errorf("%d: %q, %v", v, got, err)
		}
		if err := r.Create(t.Context(), "b", []byte("record")); err != nil {
			t.Errorf("%d: %v", v, err)
		}
	}
}

// A store that does not heed conditions is found out, and one that does is not blamed.
func TestProbe(t *testing.T) {
	for _, heedless := range []bool{false, true} {
		m := newMemory()
		m.heedless = heedless
		r := remote.New(m, "").Records("records")
		for range 2 {
			err := r.Probe(t.Context())
			if heedless && fault.ReasonOf(err) != fault.NotSupported || !heedless && err != nil {
				t.Errorf("heedless %t: %v", heedless, err)
			}
		}
	}
}
