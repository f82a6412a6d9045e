package storetest

import (
	"strings"
	"testing"

	"github.com/kluis-io/kluis/audit"
	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/store"
)

// A Database is one that is open until it is closed.
type Database struct {
	store.Domains
	Close func() error
}

// AsIs runs what an engine promises of opening one database as it is: made is the
// database's opening that brings tables up to date, asIs the other one.
func AsIs(t *testing.T, made, asIs func(store.Schema) (Database, error)) {
	less, all := store.Schema{"audit"}, store.Schema{"audit", "rbac"}
	once := func(open func(store.Schema) (Database, error), schema store.Schema, statement string) error {
		t.Helper()
		db, err := open(schema)
		if err != nil {
			return err
		}
		if statement != "" {
			err = db.Audit().Update(t.Context(), func(tx audit.Tx) error { return tx.(*store.Tx).Exec(statement) })
		}
		if closeErr := db.Close(); err == nil {
			err = closeErr
		}
		return err
	}
	refused := func(why string) {
		t.Helper()
		for range 2 { // the first time changes nothing either
			err := once(asIs, all, "")
			if fault.ReasonOf(err) != fault.Conflict || !strings.Contains(err.Error(), "another release") {
				t.Fatalf("%s: %v", why, err)
			}
		}
	}
	for _, step := range []struct {
		schema    store.Schema
		statement string
		refused   string // why it is then, "" if it is not
	}{
		{less, "", "a release that had fewer tables"},
		{all, "", ""},
		{all, "DELETE FROM schema_rbac WHERE version_id = (SELECT max(version_id) FROM schema_rbac)", "an older release"},
	} {
		if err := once(made, step.schema, step.statement); err != nil {
			t.Fatal(err)
		}
		if step.refused != "" {
			refused(step.refused)
		} else if err := once(asIs, all, ""); err != nil {
			t.Fatal(err)
		}
	}
}
