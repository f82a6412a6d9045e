package witness

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/kluis-io/kluis/envelope"
)

const (
	recordVersion = 1
	maxRecord     = 128 << 10 // bytes; a checkpoint with many signatures is the most of it
)

// A record is what lies in the store, as JSON: readable by people, believed for its
// MAC alone.
type record struct {
	Version        int    `json:"version"`
	Kind           string `json:"kind"`
	Instance       string `json:"instance"`
	Party          string `json:"party"`
	RootID         string `json:"rootId"`
	RootGeneration int    `json:"rootGeneration"`
	Restore        string `json:"restore,omitempty"` // of the declared restore in whose time it was written

	Checkpoint string `json:"checkpoint,omitempty"` // the signed note; of a head

	Scope      string `json:"scope,omitempty"` // of a mark, like the rest
	Generation int64  `json:"generation,omitempty"`
	Epoch      int64  `json:"epoch,omitempty"`

	MAC []byte `json:"mac"`
}

// mac returns the HMAC-SHA-256 over all fields in their order.
func (r *record) mac(key *envelope.Key) []byte {
	h := hmac.New(sha256.New, key[:])
	h.Write(envelope.NewContext("kluis/v1/witness", r.Kind, r.Instance, r.Party, r.RootID).
		WithUint64(uint64(r.RootGeneration)).With(r.Restore, r.Checkpoint, r.Scope).
		WithUint64(uint64(r.Generation)).WithUint64(uint64(r.Epoch)).Bytes())
	return h.Sum(nil)
}

func (r *record) encode() []byte {
	b, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		panic(err) // nothing in it fails
	}
	return append(b, '\n')
}

// parse reads a record, which anybody may have written.
func parse(b []byte) (r record, err error) {
	if len(b) > maxRecord {
		return r, errors.New("too long")
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(&r); err != nil {
		return r, err
	}
	if _, err := d.Token(); err != io.EOF {
		return r, errors.New("more than one JSON value")
	}
	switch {
	case r.Version != recordVersion:
		return r, fmt.Errorf("version %d, and this release knows %d", r.Version, recordVersion)
	case len(r.MAC) != sha256.Size:
		return r, errors.New("no MAC")
	case r.RootGeneration < 1 || r.Generation < 0 || r.Epoch < 0:
		return r, errors.New("a number out of range")
	}
	return r, nil
}
