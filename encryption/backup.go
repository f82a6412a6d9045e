package encryption

import (
	"context"
	"time"
)

// A Backup is one that exists of the platform's rows: a key version that was in use when
// it was made has to unwrap for it to be restored.
type Backup struct {
	Folder string    // the id of the folder of backups in which it lies
	Made   time.Time // its name there

	// The copied rows were the platform's at a time between the two. The zero time is not
	// known: then each version of before, or of after, is counted as in use.
	Begun, Ended time.Time
}

// clockSlack is how far the clocks of who records a backup and of who records that a
// version is used may be apart, together: a server refuses to start with more than a
// minute between itself and a database that others share.
const clockSlack = 2 * time.Minute

// needs reports whether the version may have been in use when the backup was made.
func (b Backup) needs(v VersionUse) bool {
	after := !b.Ended.IsZero() && v.First.After(b.Ended.Add(clockSlack))
	before := !b.Begun.IsZero() && !v.Last.IsZero() && v.Last.Before(b.Begun.Add(-clockSlack))
	return !after && !before
}

// RecordBackups makes the backups that a store knows of a folder the given ones. One that
// it knows already keeps its times, but for a newly known end. It is called by who takes
// backups: before one is begun, with no end, and when the folder is as it stays.
func RecordBackups(ctx context.Context, store Store, folder string, all []Backup) error {
	return store.Update(ctx, func(tx Tx) error {
		known, err := tx.Backups()
		if err != nil {
			return err
		}
		left := map[time.Time]Backup{}
		for _, b := range known {
			if b.Folder == folder {
				left[b.Made.UTC()] = b
			}
		}
		for _, b := range all {
			was, ok := left[b.Made.UTC()]
			delete(left, b.Made.UTC())
			if ok {
				if b.Ended.IsZero() || !was.Ended.IsZero() {
					continue
				}
				b.Begun = was.Begun
			}
			b.Folder = folder
			if err := tx.PutBackup(b); err != nil {
				return err
			}
		}
		for _, b := range left {
			if err := tx.DeleteBackup(b); err != nil {
				return err
			}
		}
		return nil
	})
}

// Backups returns the backups that a store knows of, by folder and time.
func Backups(ctx context.Context, store Store) (all []Backup, err error) {
	err = store.View(ctx, func(tx Tx) error {
		all, err = tx.Backups()
		return err
	})
	return all, err
}
