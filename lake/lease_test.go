package lake_test

import (
	"bytes"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/lake"
)

const (
	leaseA = "aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa"
	leaseB = "bbbbbbbb-bbbb-4bbb-8bbb-bbbbbbbbbbbb"
)

// A lease that has run out holds nobody up, may be renewed as long as nobody has
// written, and is gone when somebody has.
func TestLeaseRunsOut(t *testing.T) {
	p := start(t, t.TempDir())
	p.put(t, "Files/f", []byte("1"))
	act := func(r lake.LeaseRequest) error {
		_, err := p.Lease(t.Context(), p.caller, at("Files/f"), r)
		return err
	}
	write := func(lease string) error {
		_, err := p.Put(t.Context(), p.caller, at("Files/f"), strings.NewReader("2"), 1, lake.PutOptions{Conditions: lake.Conditions{Lease: lease}})
		return err
	}
	acquire := lake.LeaseRequest{Action: lake.AcquireLease, Proposed: leaseA, Length: time.Minute}
	must(t, act(acquire))
	refused(t, write(""), lake.LeaseMissing)
	refused(t, write(leaseB), lake.LeaseMismatch)
	must(t, write(leaseA))

	p.now.Add(1) // an hour
	refused(t, write(leaseA), lake.LeaseLost)
	must(t, act(lake.LeaseRequest{Action: lake.RenewLease, ID: leaseA}))
	refused(t, write(""), lake.LeaseMissing)
	p.now.Add(1)
	must(t, write(""))
	refused(t, write(leaseA), lake.LeaseNotPresent)
	refused(t, act(lake.LeaseRequest{Action: lake.RenewLease, ID: leaseA}), lake.LeaseOtherThanThis)

	// A break takes as long as the lease still has, at most.
	must(t, act(acquire))
	hour := time.Hour
	if err := act(lake.LeaseRequest{Action: lake.BreakLease, Break: &hour}); fault.ReasonOf(err) != fault.InvalidArgument {
		t.Errorf("a break of an hour: %v", err)
	}
	must(t, act(lake.LeaseRequest{Action: lake.BreakLease}))
	props, err := p.Stat(t.Context(), p.caller, at("Files/f"), lake.Conditions{})
	must(t, err)
	if left := props.Lease.Remaining(); props.Lease.State() != lake.LeaseBreaking || left <= 0 || left > time.Minute {
		t.Errorf("breaking for %v: %s", left, props.Lease.State())
	}
	refused(t, write(""), lake.LeaseMissing)
	refused(t, act(lake.LeaseRequest{Action: lake.ChangeLease, ID: leaseA, Proposed: leaseB}), lake.LeaseBreakingNotChanged)
	p.now.Add(1)
	must(t, act(lake.LeaseRequest{Action: lake.AcquireLease, Proposed: leaseB}))
	refused(t, act(lake.LeaseRequest{Action: lake.ReleaseLease, ID: leaseA}), lake.LeaseOtherThanThis)
	must(t, act(lake.LeaseRequest{Action: lake.ReleaseLease, ID: strings.ToUpper(leaseB)}))
	must(t, write(""))
}

// What is leased keeps its lease through a restart, a rename and a re-encryption
// of its row, and protects the folder above it.
func TestLeaseStays(t *testing.T) {
	dir := t.TempDir()
	p := start(t, dir)
	p.put(t, "Files/a/b/f", []byte("1"))
	_, err := p.Lease(t.Context(), p.caller, at("Files/a/b/f"), lake.LeaseRequest{Action: lake.AcquireLease, Proposed: leaseA})
	must(t, err)
	must(t, p.db.Close())
	p.open(t)
	_, err = p.Rename(t.Context(), p.caller, at("Files/a"), at("Files/c"), lake.RenameOptions{})
	must(t, err)
	_, err = p.Rename(t.Context(), p.caller, at("Files/c/b/f"), at("Files/c/f"), lake.RenameOptions{})
	refused(t, err, lake.LeaseMissing)
	_, err = p.Rename(t.Context(), p.caller, at("Files/c/b/f"), at("Files/c/f"), lake.RenameOptions{SourceConditions: lake.Conditions{Lease: leaseA}})
	must(t, err)
	refused(t, p.Delete(t.Context(), p.caller, at("Files/c"), true, lake.Conditions{}), lake.LeaseMissing)
	must(t, p.Delete(t.Context(), p.caller, at("Files/c/b"), true, lake.Conditions{}))
	must(t, p.Delete(t.Context(), p.caller, at("Files/c/f"), false, lake.Conditions{Lease: leaseA}))
	must(t, p.Delete(t.Context(), p.caller, at("Files/c"), true, lake.Conditions{}))
}

func refused(t *testing.T, err error, want lake.Refusal) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Errorf("got %v, want a refusal: %s", err, want)
	}
}

// A copy to another item lies under that item's keys, and the source may go.
func TestCopyBetweenItems(t *testing.T) {
	p := start(t, t.TempDir())
	for _, n := range []int{0, 10, lake.MaxInline + 1, 300_000} {
		body := random(n, uint64(n))
		p.put(t, "Files/src", body)
		_, err := p.SetHeaders(t.Context(), p.caller, at("Files/src"), lake.ContentHeaders{Type: "text/x"}, lake.Conditions{})
		must(t, err)
		to := lake.Path{Container: "ws", Segments: []string{"nb.Notebook", "Files", "dst"}}
		props, err := p.Copy(t.Context(), p.caller, to, lake.Source{Caller: p.caller, Path: at("Files/src")}, lake.CopyOptions{KeepHeaders: true, Source: "https://x/src"})
		must(t, err)
		if props.Item != otherID || props.Headers.Type != "text/x" || props.Copy.Size != int64(n) || props.Copy.Source != "https://x/src" {
			t.Errorf("%d bytes: %+v", n, props)
		}
		must(t, p.Delete(t.Context(), p.caller, at("Files/src"), false, lake.Conditions{}))
		c, err := p.Open(t.Context(), p.caller, to, lake.Conditions{}, lake.Range{Suffix: int64(n)/2 + 1})
		must(t, err)
		var got bytes.Buffer
		_, err = c.WriteTo(&got)
		must(t, err)
		c.Close()
		if want := body[max(0, n-(n/2+1)):]; !bytes.Equal(got.Bytes(), want) {
			t.Errorf("%d bytes: the copy's end has %d, want %d", n, got.Len(), len(want))
		}
	}
	p.put(t, "Files/src", random(200_000, 1))
	_, err := p.Copy(t.Context(), p.caller, at("Files/src"), lake.Source{Caller: p.caller, Path: at("Files/none")}, lake.CopyOptions{})
	if fault.ReasonOf(err) != fault.SourceNotFound {
		t.Errorf("a copy of nothing: %v", err)
	}
	before, err := p.Stat(t.Context(), p.caller, at("Files/src"), lake.Conditions{})
	must(t, err)
	_, err = p.Copy(t.Context(), p.caller, at("Files/src"), lake.Source{Caller: p.caller, Path: at("Files/src")}, lake.CopyOptions{}) // onto itself
	must(t, err)
	after, err := p.Stat(t.Context(), p.caller, at("Files/src"), lake.Conditions{})
	must(t, err)
	if *before.CRC64 != *after.CRC64 || before.ETag == after.ETag {
		t.Error("a copy onto itself changed the content, or not the version")
	}
}
