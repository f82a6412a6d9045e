package audit

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"

	"github.com/kluis-io/kluis/fault"
)

// A Certificate is an entry with the proof that the log holds it: whoever has the
// log's public key can verify it offline, without the log.
type Certificate struct {
	Sequence int64  `json:"sequence"` // the entry's position in the log
	Entry    Entry  `json:"entry"`
	Proof    string `json:"proof"` // c2sp.org/tlog-proof@v1, of the entry's canonical bytes
}

const (
	proofHeader = "c2sp.org/tlog-proof@v1\n"
	maxProof    = 64 // hashes: the height of the highest tree
)

// Certify signs a checkpoint if the newest does not cover the entry yet, and
// returns the entry with its proof. It fails with [fault.NotFound] if the log has
// no such entry, and with [fault.Integrity] if the database does not hold what was
// signed.
func (l *Log) Certify(ctx context.Context, sequence int64) (Certificate, error) {
	if _, err := l.Checkpoint(ctx); err != nil {
		return Certificate{}, err
	}
	l.mu.Lock()
	head, signed := l.newest, l.note
	l.mu.Unlock()
	if sequence < 0 || sequence >= head.Size {
		return Certificate{}, fault.New(fault.NotFound, "The audit log has no such entry.")
	}
	var body []byte
	var proof tlog.RecordProof
	err := l.Store.View(ctx, func(tx Tx) error {
		records, err := tx.AuditRecords(sequence, 1)
		if err != nil {
			return err
		}
		if len(records) != 1 || records[0].Sequence != sequence {
			return damaged(nil, fmt.Sprintf("Entry %d of the audit log is missing.", sequence))
		}
		body = records[0].Body
		proof, err = tlog.ProveRecord(head.Size, sequence, storedHashes(tx))
		return err
	})
	if err != nil {
		return Certificate{}, err
	}
	entry, err := Parse(body)
	if err == nil {
		err = tlog.CheckRecord(proof, head.Size, head.Root, sequence, tlog.RecordHash(body))
	}
	if err != nil {
		return Certificate{}, damaged(err, fmt.Sprintf("Entry %d of the audit log is not what was signed.", sequence))
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%sindex %d\n", proofHeader, sequence)
	for _, h := range proof {
		fmt.Fprintf(&b, "%s\n", h)
	}
	fmt.Fprintf(&b, "\n%s", signed)
	return Certificate{Sequence: sequence, Entry: entry, Proof: b.String()}, nil
}

// Verify checks that the log of the verifier's key holds the entry, and returns the
// checkpoint that says so.
func (c Certificate) Verify(v note.Verifier) (Checkpoint, error) {
	index, proof, signed, err := parseProof(c.Proof)
	if err != nil {
		return Checkpoint{}, err
	}
	if index != c.Sequence {
		return Checkpoint{}, errors.New("audit certificate: the proof is of another entry")
	}
	head, err := OpenCheckpoint([]byte(signed), v)
	if err != nil {
		return Checkpoint{}, err
	}
	body, err := Encode(c.Entry)
	if err != nil {
		return Checkpoint{}, err
	}
	if index >= head.Size {
		return Checkpoint{}, errors.New("audit certificate: the checkpoint does not cover the entry")
	}
	if err := tlog.CheckRecord(proof, head.Size, head.Root, index, tlog.RecordHash(body)); err != nil {
		return Checkpoint{}, fmt.Errorf("audit certificate: the log does not hold this entry: %w", err)
	}
	return head, nil
}

// parseProof takes a proof apart; of the format's optional lines it takes none.
func parseProof(text string) (index int64, proof tlog.RecordProof, signed string, err error) {
	malformed := errors.New("audit certificate: malformed proof")
	rest, ok := strings.CutPrefix(text, proofHeader)
	head, signed, blank := strings.Cut(rest, "\n\n")
	lines := strings.Split(head, "\n")
	number, named := strings.CutPrefix(lines[0], "index ")
	if !ok || !blank || !named || len(lines) > maxProof+1 {
		return 0, nil, "", malformed
	}
	if index, err = strconv.ParseInt(number, 10, 64); err != nil || index < 0 || strconv.FormatInt(index, 10) != number {
		return 0, nil, "", malformed
	}
	for _, line := range lines[1:] {
		h, err := tlog.ParseHash(line)
		if err != nil {
			return 0, nil, "", malformed
		}
		proof = append(proof, h)
	}
	return index, proof, signed, nil
}
