package audit

import (
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// maxNote bounds a signed note: a checkpoint of ours is under 500 bytes, and a
// published one may carry the signatures of witnesses.
const maxNote = 64 << 10

// A Checkpoint is a tree head that the log's key has signed: the text of
// c2sp.org/tlog-checkpoint, with the serial number as its one extension line.
type Checkpoint struct {
	Origin string    // the log's name, which is also its key's
	Size   int64     // how many entries it covers
	Root   tlog.Hash // the root of their tree
	Serial int64     // numbers a log's checkpoints from 0, so that a missing one shows
}

// text returns what is signed.
func (c Checkpoint) text() string {
	return fmt.Sprintf("%s\n%d\n%s\nserial %d\n", c.Origin, c.Size, c.Root, c.Serial)
}

// sign returns the signed note.
func (c Checkpoint) sign(s note.Signer) ([]byte, error) {
	return note.Sign(&note.Note{Text: c.text()}, s)
}

// OpenCheckpoint returns the checkpoint that a signed note holds. It fails if
// the note has no valid signature of the verifier's key. Other signatures, a
// witness's for example, are ignored.
func OpenCheckpoint(msg []byte, v note.Verifier) (Checkpoint, error) {
	if len(msg) > maxNote {
		return Checkpoint{}, errors.New("audit checkpoint: too long")
	}
	n, err := note.Open(msg, note.VerifierList(v))
	if err != nil {
		return Checkpoint{}, fmt.Errorf("audit checkpoint: %w", err)
	}
	c, err := parseCheckpoint(n.Text)
	if err != nil {
		return Checkpoint{}, err
	}
	if c.Origin != v.Name() {
		return Checkpoint{}, fmt.Errorf("audit checkpoint: of the log %q, signed by %q", c.Origin, v.Name())
	}
	return c, nil
}

// openStored is OpenCheckpoint for a note of the log's own database, where only
// the one spelling that sign gives is left alone.
func openStored(msg []byte, v note.Verifier) (Checkpoint, error) {
	c, err := OpenCheckpoint(msg, v)
	if err != nil {
		return Checkpoint{}, err
	}
	prefix := c.text() + "\n— " + v.Name() + " "
	sig, ok := strings.CutPrefix(string(msg), prefix)
	sig, newline := strings.CutSuffix(sig, "\n")
	raw, err := base64.StdEncoding.Strict().DecodeString(sig)
	if !ok || !newline || err != nil || base64.StdEncoding.EncodeToString(raw) != sig {
		return Checkpoint{}, errors.New("audit checkpoint: the note is not as it was signed")
	}
	return c, nil
}

// parseCheckpoint reads the text of a checkpoint and accepts exactly what text
// gives.
func parseCheckpoint(text string) (Checkpoint, error) {
	malformed := errors.New("audit checkpoint: malformed text")
	lines := strings.Split(text, "\n")
	if len(lines) != 5 || lines[0] == "" {
		return Checkpoint{}, malformed
	}
	c := Checkpoint{Origin: lines[0]}
	var err error
	if c.Size, err = strconv.ParseInt(lines[1], 10, 64); err != nil || c.Size < 0 {
		return Checkpoint{}, malformed
	}
	if c.Root, err = tlog.ParseHash(lines[2]); err != nil {
		return Checkpoint{}, malformed
	}
	serial, ok := strings.CutPrefix(lines[3], "serial ")
	if c.Serial, err = strconv.ParseInt(serial, 10, 64); !ok || err != nil || c.Serial < 0 {
		return Checkpoint{}, malformed
	}
	if c.text() != text {
		return Checkpoint{}, malformed
	}
	return c, nil
}

// The log keeps every one of the newest checkpoints and ever fewer of the older
// ones, by a rule that needs nothing but the numbers, so that whoever verifies
// knows which must be there.
const kept = 64

// retained reports whether the checkpoint of a serial number is kept while the
// newest is newest: of the last kept, each; of the last kept², each kept-th; and
// so on; and the first of all for ever.
func retained(serial, newest int64) bool {
	if serial < 0 || serial > newest {
		return false
	}
	for step := int64(1); ; step *= kept {
		if serial%step != 0 {
			return false
		}
		if (newest-serial)/step < kept {
			return true
		}
	}
}

// retainedSerials returns the serial numbers that are retained while the newest
// is newest, the newest first.
func retainedSerials(newest int64) []int64 {
	var out []int64
	for step := int64(1); ; step *= kept {
		for s := newest - newest%step; s >= 0 && (newest-s)/step < kept; s -= step {
			if len(out) == 0 || s < out[len(out)-1] {
				out = append(out, s)
			}
		}
		if step > newest {
			return out
		}
	}
}
