package root

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/kluis-io/kluis/envelope"
	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/internal/durable"
)

const (
	fileVersion = 1
	maxFile     = 64 << 10 // bytes; a root file has under 1 KiB
)

// A file is the root file. Everything in it but the sealed bytes is bound to
// them as their context.
type file struct {
	Version    int        `json:"version"`
	Generation uint16     `json:"generation"`
	RootID     string     `json:"rootId"`
	Instance   string     `json:"instance"`
	Seal       sealParams `json:"seal"`
	Sealed     []byte     `json:"sealed"`
}

func (f file) context() envelope.Context {
	c := envelope.NewContext("kluis/v1/root", f.Instance, f.RootID).WithUint64(uint64(f.Generation)).With(string(f.Seal.Type))
	if a := f.Seal.Argon2id; a != nil {
		c = c.WithBytes(a.Salt).WithUint64(uint64(a.Time)).WithUint64(uint64(a.Memory)).WithUint64(uint64(a.Threads))
	}
	if p := f.Seal.PBKDF2; p != nil {
		c = c.With("pbkdf2-sha256").WithBytes(p.Salt).WithUint64(uint64(p.Iterations))
	}
	if w := f.Seal.Wrapped; w != nil {
		c = c.With(w.Key).With(w.Algorithm).WithBytes(w.Bytes)
	}
	return c
}

// id returns the root id of a file that parseFile has accepted.
func (f file) id() (id [idSize]byte) {
	hex.Decode(id[:], []byte(f.RootID))
	return id
}

func readFile(path string) (file, error) {
	in, err := os.Open(path)
	if err != nil {
		return file{}, err
	}
	defer in.Close()
	b, err := io.ReadAll(io.LimitReader(in, maxFile+1))
	if err != nil {
		return file{}, err
	}
	f, err := parseFile(b)
	if err != nil {
		return file{}, fault.Wrap(fault.Integrity, err, "The root file is damaged.").WithMend("Restore it from a backup, or recover it from its shares.")
	}
	return f, nil
}

// parseFile reads a root file, which anybody may have written.
func parseFile(b []byte) (f file, err error) {
	if len(b) > maxFile {
		return file{}, errors.New("too long")
	}
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	if err := d.Decode(&f); err != nil {
		return file{}, err
	}
	if _, err := d.Token(); err != io.EOF {
		return file{}, errors.New("more than one JSON value")
	}
	id, err := hex.DecodeString(f.RootID)
	switch {
	case f.Version != fileVersion:
		return file{}, fmt.Errorf("version %d, and this release knows %d", f.Version, fileVersion)
	case f.Generation == 0:
		return file{}, errors.New("no generation")
	case err != nil || len(id) != idSize || hex.EncodeToString(id) != f.RootID:
		return file{}, errors.New("malformed root id")
	case f.Instance == "":
		return file{}, errors.New("no instance")
	case int64(len(f.Sealed)) != envelope.SealedSize(envelope.KeySize):
		return file{}, errors.New("the sealed bytes have another length")
	}
	return f, f.Seal.validate()
}

func (f file) write(path string) error {
	b, err := json.MarshalIndent(f, "", "  ")
	if err != nil {
		return err
	}
	return durable.WriteFile(path, append(b, '\n'), 0o600)
}

// private refuses a file that others than its owner may read.
func private(path string) error {
	info, err := os.Stat(path)
	if err != nil {
		return err
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		return fault.New(fault.Denied, fmt.Sprintf("The root is not sealed and its file has mode %04o: others may have read it.", mode)).
			WithMend("Set the mode to 0600, and make a new root if anybody may have read it.")
	}
	return nil
}
