package remote

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"strings"
	"time"

	"github.com/kluis-io/kluis/fault"
)

// MaxRecord is the most that a record holds, in bytes.
const MaxRecord = 16 << 20

// A Records keeps named records below a prefix of a store. Package objstore says what
// records are.
//
// A record changes hands by a condition: who writes says which one he has read, by the
// tag that the store gives each (If-Match), or that there was none (If-None-Match). So
// the store has to know both and to heed them in one step with the write, whatever else
// it does: see [Records.Probe].
type Records struct {
	client Client
	prefix string
}

// Records returns the records below a further prefix, which may be empty. They are no
// objects of the store: its List does not name them.
func (s *Store) Records(below string) *Records {
	return &Records{client: s.client, prefix: New(nil, s.prefix+below).prefix}
}

// Read returns a record, or nil if there is none of that name.
func (r *Records) Read(ctx context.Context, name string) ([]byte, error) {
	record, _, err := r.fetch(ctx, name)
	return record, err
}

// fetch returns a record and its tag; both are zero if there is none.
func (r *Records) fetch(ctx context.Context, name string) (record []byte, tag string, err error) {
	for try := 1; ; try++ {
		record, tag, err = r.tryFetch(ctx, name)
		if err == nil || try == maxTries || !errors.Is(err, errBroken) {
			break
		}
		if err := pause(ctx); err != nil {
			return nil, "", err
		}
	}
	if errors.Is(err, fault.NotFound) {
		return nil, "", nil
	}
	return record, tag, err
}

func (r *Records) tryFetch(ctx context.Context, name string) ([]byte, string, error) {
	body, size, tag, err := r.client.Fetch(ctx, r.prefix+name)
	if err != nil {
		return nil, "", err
	}
	defer body.Close()
	record, err := io.ReadAll(io.LimitReader(body, MaxRecord+1))
	switch {
	case len(record) > MaxRecord:
		return nil, "", fault.New(fault.Integrity, "A record is longer than any that was written.")
	case err == nil && int64(len(record)) != size:
		err = io.ErrUnexpectedEOF
		fallthrough
	case err != nil:
		return nil, "", Failed(errors.Join(errBroken, err))
	}
	return record, tag, nil // which is not nil: an empty record is no missing one
}

// pause waits before something is tried again.
func pause(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return Failed(ctx.Err())
	case <-time.After(rand.N(maxPause)):
		return nil
	}
}

// Create makes a record that never changes. It succeeds if the same is there already,
// be it from a try whose answer was lost, and fails with [fault.Conflict] if there is
// another.
func (r *Records) Create(ctx context.Context, name string, record []byte) error {
	err := r.client.Swap(ctx, r.prefix+name, "", record)
	if !errors.Is(err, ErrExists) {
		return err
	}
	there, _, err := r.fetch(ctx, name)
	switch {
	case err != nil:
		return err
	case there == nil:
		return Failed(errors.New("a record is said to be there, and is not"))
	case !bytes.Equal(there, record):
		return fault.New(fault.Conflict, "There is another record of that name.")
	}
	return nil
}

const (
	// swapAttempts bounds how often others may come before a Replace.
	swapAttempts = 100
	// maxPause is the most that is waited before something is tried again.
	maxPause = 50 * time.Millisecond
)

// Replace gives decide the record of that name, or nil if there is none, and puts the
// one that it returns in its place; nil leaves it as it is. Where somebody else comes
// between the two, decide is asked again, as it is where the answer to a write was lost:
// then with what it has returned itself.
func (r *Records) Replace(ctx context.Context, name string, decide func([]byte) ([]byte, error)) error {
	for n := 1; ; n++ {
		old, tag, err := r.fetch(ctx, name)
		if err != nil {
			return err
		}
		record, err := decide(old)
		if err != nil || record == nil {
			return err
		}
		err = r.client.Swap(ctx, r.prefix+name, tag, record)
		if !errors.Is(err, ErrExists) {
			return err
		}
		if n == swapAttempts {
			return Failed(errors.New("others always come first"))
		}
		if err := pause(ctx); err != nil {
			return err
		}
	}
}

// List calls each with the names below a prefix that ends with a slash, until it returns
// an error.
func (r *Records) List(ctx context.Context, prefix string, each func(name string) error) error {
	return r.client.List(ctx, r.prefix+prefix, func(name string, _ time.Time) error {
		return each(strings.TrimPrefix(name, r.prefix))
	})
}

// Delete removes a record, if it is there.
func (r *Records) Delete(ctx context.Context, name string) error {
	return r.client.Delete(ctx, r.prefix+name)
}

// probeName is the record that Probe writes.
const probeName = "kluis-probe"

// Probe asks the store, with a record of its own, whether it heeds the two conditions:
// one that takes every write would let an old record take a newer one's place.
func (r *Records) Probe(ctx context.Context) error {
	record := []byte("kluis asks whether the store heeds If-Match and If-None-Match")
	if err := r.Replace(ctx, probeName, func([]byte) ([]byte, error) { return record, nil }); err != nil {
		return err
	}
	_, tag, err := r.fetch(ctx, probeName)
	if err != nil {
		return err
	}
	for _, claimed := range []string{"", otherTag(tag)} {
		switch err := r.client.Swap(ctx, r.prefix+probeName, claimed, record); {
		case err == nil:
			return fault.New(fault.NotSupported, "The object store writes what a condition forbids: it does not know If-Match and If-None-Match.").
				WithMend("Keep these records in a store that knows both, or in a folder.")
		case !errors.Is(err, ErrExists):
			return err
		}
	}
	return nil
}

// otherTag returns a tag that no record has: the one that is given with a digit changed.
func otherTag(tag string) string {
	b := []byte(tag)
	for i := len(b) - 1; i >= 0; i-- {
		switch {
		case b[i] == '0':
			b[i] = '1'
			return string(b)
		case b[i] >= '1' && b[i] <= '9', b[i] >= 'a' && b[i] <= 'f', b[i] >= 'A' && b[i] <= 'F':
			b[i] = '0'
			return string(b)
		}
	}
	return `"00000000000000000000000000000000"`
}
