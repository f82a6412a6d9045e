package objtest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"testing"

	"github.com/kluis-io/kluis/fault"
)

// Records are what a store of records does, as package objstore has it.
type Records interface {
	Read(ctx context.Context, name string) ([]byte, error)
	Create(ctx context.Context, name string, record []byte) error
	Replace(ctx context.Context, name string, decide func(old []byte) ([]byte, error)) error
	List(ctx context.Context, prefix string, each func(name string) error) error
	Delete(ctx context.Context, name string) error
}

// RunRecords checks what package objstore promises of records. open returns an empty
// store of them, and another on the same records each time the function that it returns
// is called.
func RunRecords(t *testing.T, open func(t *testing.T) (reopen func() Records)) {
	t.Run("Create", func(t *testing.T) { createRecords(t, open(t)) })
	t.Run("Replace", func(t *testing.T) { replaceRecords(t, open(t)) })
	t.Run("Race", func(t *testing.T) { raceRecords(t, open(t)) })
	t.Run("List", func(t *testing.T) { listRecords(t, open(t)()) })
}

func wantRecord(t *testing.T, r Records, name string, want []byte) {
	t.Helper()
	got, err := r.Read(t.Context(), name)
	if err != nil || !bytes.Equal(got, want) || (got == nil) != (want == nil) {
		t.Errorf("%s: %.40q, %v; want %.40q", name, got, err, want)
	}
}

func createRecords(t *testing.T, reopen func() Records) {
	a, b := reopen(), reopen()
	wantRecord(t, a, "tile/0/x001/000", nil)
	for _, record := range [][]byte{{}, []byte("short"), content(200_000)} {
		name := "tile/0/x001/" + strconv.Itoa(len(record))
		for _, r := range []Records{a, a, b} { // again is no error
			if err := r.Create(t.Context(), name, record); err != nil {
				t.Fatal(err)
			}
			wantRecord(t, b, name, record)
		}
		if err := b.Create(t.Context(), name, []byte("other")); !errors.Is(err, fault.Conflict) {
			t.Errorf("another record of a name that is taken: %v", err)
		}
		wantRecord(t, a, name, record)
	}
}

func replaceRecords(t *testing.T, reopen func() Records) {
	a, b := reopen(), reopen()
	to := func(want, next []byte) func([]byte) ([]byte, error) {
		return func(old []byte) ([]byte, error) {
			if !bytes.Equal(old, want) || (old == nil) != (want == nil) {
				t.Errorf("decides on %q; want %q", old, want)
			}
			return next, nil
		}
	}
	const name = "scopes/a.json"
	for _, step := range []struct {
		r         Records
		old, next []byte
	}{{a, nil, []byte("1")}, {b, []byte("1"), []byte("2")}, {a, []byte("2"), []byte("1")}, {b, []byte("1"), nil}, {b, []byte("1"), []byte{}}, {a, []byte{}, []byte("3")}} {
		if err := step.r.Replace(t.Context(), name, to(step.old, step.next)); err != nil {
			t.Fatal(err)
		}
	}
	refusal := errors.New("no")
	if err := a.Replace(t.Context(), name, func([]byte) ([]byte, error) { return []byte("4"), refusal }); !errors.Is(err, refusal) {
		t.Errorf("a refusal comes back as %v", err)
	}
	wantRecord(t, b, name, []byte("3"))
	if err := a.Delete(t.Context(), name); err != nil {
		t.Error(err)
	}
	if err := a.Delete(t.Context(), name); err != nil {
		t.Errorf("a record that is not there: %v", err)
	}
	wantRecord(t, b, name, nil)
}

// raceRecords counts up by several writers at once: none overwrites what it has not
// read.
func raceRecords(t *testing.T, reopen func() Records) {
	const writers, each = 4, 8
	var all sync.WaitGroup
	for range writers {
		r := reopen()
		all.Go(func() {
			for range each {
				if err := r.Replace(t.Context(), "head.json", func(old []byte) ([]byte, error) {
					n, err := strconv.Atoi("0" + string(old))
					return []byte(strconv.Itoa(n + 1)), err
				}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	all.Wait()
	wantRecord(t, reopen(), "head.json", []byte(strconv.Itoa(writers*each)))
	// And of several who make the same name with other content, one does.
	made := make([]bool, writers)
	for n := range writers {
		r := reopen()
		all.Go(func() {
			err := r.Create(t.Context(), "made", fmt.Appendf(nil, "%d", n))
			if made[n] = err == nil; err != nil && !errors.Is(err, fault.Conflict) {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if first := slices.Index(made, true); first < 0 || slices.Contains(made[first+1:], true) {
		t.Errorf("these have made the one record: %v", made)
	} else {
		wantRecord(t, reopen(), "made", fmt.Appendf(nil, "%d", first))
	}
}

func listRecords(t *testing.T, r Records) {
	names := []string{"a/p/1", "a/p/2", "a/q", "b"}
	for _, name := range names {
		if err := r.Create(t.Context(), name, []byte(name)); err != nil {
			t.Fatal(err)
		}
	}
	for prefix, want := range map[string][]string{"a/p/": names[:2], "a/": names[:3], "c/": nil} {
		var got []string
		if err := r.List(t.Context(), prefix, func(name string) error { got = append(got, name); return nil }); err != nil {
			t.Error(err)
		}
		if slices.Sort(got); !slices.Equal(got, want) {
			t.Errorf("below %s: %v; want %v", prefix, got, want)
		}
	}
}
