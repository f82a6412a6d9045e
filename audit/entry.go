// Package audit is a party's append-only record of every decision and key use.
//
// An entry commits in the same transaction as the act it records; if the act
// writes nothing, the entry is durable before the act's answer leaves. An entry
// that cannot be written fails the act. The entries of one party form a Merkle
// log (RFC 6962 hashing, as in golang.org/x/mod/sumdb/tlog) whose checkpoints
// are signed notes (c2sp.org/tlog-checkpoint) made with a key that lies outside
// the database, so that whoever edits, drops, reorders or inserts an entry is
// found out offline.
//
// Entries carry ids and numbers, never names, paths, metadata or key material:
// reading the log needs no tenant's key. A key's kid is an id.
//
// The package does not decide what is worth an entry; the domains do, by the
// order authorise, audit, act. It does not detect the joint replacement of the
// database and of the checkpoint kept outside it by whoever also holds the
// signing key.
package audit

import (
	"context"
	"time"

	"github.com/kluis-io/kluis/fault"
)

// An Outcome says how an act ended.
type Outcome string

// The outcomes.
const (
	Allowed Outcome = "allowed" // authorised, and done
	Denied  Outcome = "denied"  // not authorised
	Failed  Outcome = "failed"  // authorised, and not done for the entry's reason
)

// An Entry is one decision or key use.
type Entry struct {
	Time        time.Time         `json:"time"` // microseconds, UTC; set by the log if zero
	Operation   string            `json:"operation"`
	Outcome     Outcome           `json:"outcome"`
	Reason      fault.Reason      `json:"reason,omitempty"`    // why it was denied or failed
	Tenant      string            `json:"tenant,omitempty"`    // directory id
	Principal   string            `json:"principal,omitempty"` // object id of who asked
	Application string            `json:"application,omitempty"`
	Resource    string            `json:"resource,omitempty"` // ids, as a path: /workspaces/ID/items/ID
	Request     string            `json:"request,omitempty"`  // our id of the request
	Correlation string            `json:"correlation,omitempty"`
	Address     string            `json:"address,omitempty"` // the client's
	Detail      map[string]string `json:"detail,omitempty"`  // ids and numbers
}

// An Appender is the part of a store's transaction that records entries. What
// the transaction does and what it appends become durable together or not at
// all.
type Appender interface {
	AppendAudit(Entry) error
}

// A Recorder makes an entry durable by itself: for acts that write nothing, and
// for denials. A nil error means that the entry survives a power cut.
type Recorder interface {
	Record(ctx context.Context, e Entry) error
}
