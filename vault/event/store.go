package event

import (
	"context"
	"time"

	"github.com/kluis-io/kluis/vault"
)

// A Store is the vault's database.
type Store interface {
	View(ctx context.Context, fn func(Tx) error) error
	Update(ctx context.Context, fn func(Tx) error) error
}

// A Tx is one transaction: what is read of the vault's, and the rows of events.
type Tx interface {
	VaultIDs() ([]vault.ID, error)
	VaultByID(vault.ID) (vault.Vault, error)
	VaultRevision(vault.ID) (newest, dropped int64, err error)
	VaultChanges(id vault.ID, after int64, limit int) ([]vault.Change, error)
	VaultKey(id vault.ID, name vault.KeyName) (vault.Key, error)
	VaultKeyVersion(key vault.KeyID, version vault.Version) (vault.KeyVersion, error)

	// EventFeeds returns how far each vault's changes have been read.
	EventFeeds() ([]Feed, error)
	// PutEventFeed adds or replaces one.
	PutEventFeed(Feed) error
	// DropEventFeed removes one.
	DropEventFeed(vault.ID) error

	// AddEventDelivery puts a delivery at the end of its sink's, unless the sink has
	// one of the event.
	AddEventDelivery(Delivery) error
	// DueEventDeliveries returns at most limit of a sink's that may be sent at a
	// time: of each ordering the first that is not dead, oldest first.
	DueEventDeliveries(sink string, at time.Time, limit int) ([]Delivery, error)
	// SetEventDelivery keeps what an attempt has changed; nothing if it is gone.
	SetEventDelivery(Delivery) error
	// DropEventDelivery removes one that has arrived.
	DropEventDelivery(sink string, seq int64) error
	// EventDeliveries returns at most limit, either the dead or the waiting ones,
	// oldest first.
	EventDeliveries(dead bool, limit int) ([]Delivery, error)
	// SweepEventDeliveries gives up what has waited since before one time, and
	// removes what was given up before another.
	SweepEventDeliveries(now, waiting, dead time.Time) (gaveUp int64, err error)
}

// A Feed is how far a vault's changes have become events. Name and Scope outlive
// the vault.
type Feed struct {
	Vault vault.ID // "" for the row that says that events are kept
	Name  vault.Name
	Scope string
	Seq   int64
}

// A Delivery is an event on its way to one sink.
type Delivery struct {
	Sink     string
	Seq      int64 // given by the store
	Event    string
	Type     Type
	Ordering string
	Body     []byte
	Created  time.Time
	Attempts int
	Next     time.Time // not before
	Dead     time.Time // given up at; zero if not
	Error    string    // of the last attempt
}
