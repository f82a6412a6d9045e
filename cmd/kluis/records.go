package main

import (
	"context"
	"fmt"
	"path"
	"path/filepath"
	"strings"
	"time"

	"github.com/kluis-io/kluis/objstore/local"
	"github.com/kluis-io/kluis/objstore/remote"
)

// Records are what package objstore says of them: the witness's, and the published
// audit logs.
type records interface {
	Read(ctx context.Context, name string) ([]byte, error)
	Create(ctx context.Context, name string, record []byte) error
	Replace(ctx context.Context, name string, decide func(old []byte) ([]byte, error)) error
	List(ctx context.Context, prefix string, each func(name string) error) error
	Delete(ctx context.Context, name string) error
}

// isAddress tells the address of an object store from the path of a folder.
func isAddress(place string) bool { return strings.Contains(place, "://") }

// checkRecords checks a setting that names a folder or an object store.
func checkRecords(setting, place string) error {
	if !isAddress(place) {
		return nil
	}
	a, err := parseAddress(setting, place)
	if err == nil && a.overwrite {
		err = fmt.Errorf("%s: a store that takes every write, as overwrite=true says, cannot keep this: name a folder", setting)
	}
	return err
}

// openRecords opens the records in a folder or an object store, below the names given,
// to be written: it makes sure that a store heeds conditions.
func (c Config) openRecords(ctx context.Context, setting, place, credentialFile string, below ...string) (records, error) {
	r, err := c.readRecords(ctx, setting, place, credentialFile, below...)
	if err != nil {
		return nil, err
	}
	if there, ok := r.(bounded); ok {
		ctx, cancel := context.WithTimeout(ctx, recordTime)
		defer cancel()
		if err := there.Probe(ctx); err != nil {
			return nil, fmt.Errorf("%s: %w", setting, err)
		}
	}
	return r, nil
}

// readRecords opens records to be read. It asks a store nothing.
func (c Config) readRecords(ctx context.Context, setting, place, credentialFile string, below ...string) (records, error) {
	if !isAddress(place) {
		return local.RecordsIn(filepath.Join(append([]string{place}, below...)...)), nil
	}
	a, err := parseAddress(setting, place)
	if err != nil {
		return nil, usageError{err}
	}
	pool, err := c.pool()
	if err != nil {
		return nil, err
	}
	store, err := a.open(ctx, credentialFile, remote.HTTPClient(pool))
	if err != nil {
		return nil, fmt.Errorf("%s: %w", setting, err)
	}
	return bounded{store.Records(path.Join(below...))}, nil
}

// recordTime bounds each use of a record elsewhere: shorter than a key lease, which waits
// for the witness.
const recordTime = 20 * time.Second

// bounded are records elsewhere that are not waited for for longer than recordTime.
type bounded struct{ *remote.Records }

func (b bounded) Read(ctx context.Context, name string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, recordTime)
	defer cancel()
	return b.Records.Read(ctx, name)
}

func (b bounded) Create(ctx context.Context, name string, record []byte) error {
	ctx, cancel := context.WithTimeout(ctx, recordTime)
	defer cancel()
	return b.Records.Create(ctx, name, record)
}

func (b bounded) Replace(ctx context.Context, name string, decide func([]byte) ([]byte, error)) error {
	ctx, cancel := context.WithTimeout(ctx, recordTime)
	defer cancel()
	return b.Records.Replace(ctx, name, decide)
}
