package postgres_test

import (
	"context"
	"os"
	"testing"

	"github.com/kluis-io/kluis/internal/pgtest"
	"github.com/kluis-io/kluis/store"
	"github.com/kluis-io/kluis/store/postgres"
	"github.com/kluis-io/kluis/store/storetest"
)

var server *pgtest.Server

func TestMain(m *testing.M) { os.Exit(pgtest.Run(m, &server)) }

// open opens a fresh database, and closes it with the test.
func open(t *testing.T, schema store.Schema) *postgres.DB {
	t.Helper()
	db, err := postgres.Open(t.Context(), server.Database(t), schema)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	return db
}

func TestConformance(t *testing.T) {
	storetest.Engine(t, func(t *testing.T, schema store.Schema) store.Domains { return open(t, schema).Domains })
}

func TestAsIs(t *testing.T) {
	url := server.Database(t)
	using := func(open func(context.Context, string, store.Schema) (*postgres.DB, error)) func(store.Schema) (storetest.Database, error) {
		return func(schema store.Schema) (storetest.Database, error) {
			db, err := open(t.Context(), url, schema)
			if err != nil {
				return storetest.Database{}, err
			}
			return storetest.Database{Domains: db.Domains, Close: db.Close}, nil
		}
	}
	storetest.AsIs(t, using(postgres.Open), using(postgres.OpenAsIs))
}
