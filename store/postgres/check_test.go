package postgres_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/store"
	"github.com/kluis-io/kluis/store/postgres"
)

// A server that would lose what it has acknowledged is refused, with what to do.
func TestUnfitServer(t *testing.T) {
	for name, c := range map[string]struct{ statement, says string }{
		"flushes nothing": {"ALTER DATABASE %s SET kluis.may_lose_data = off", "fsync = on"},
		"takes no writes": {"ALTER DATABASE %s SET default_transaction_read_only = on", "target_session_attrs"},
	} {
		t.Run(name, func(t *testing.T) {
			url := server.Database(t)
			database := databaseOf(url)
			if err := server.Exec("postgres", strings.ReplaceAll(c.statement, "%s", database)); err != nil {
				t.Fatal(err)
			}
			_, err := postgres.Open(t.Context(), url, store.Schema{"audit"})
			var refused *fault.Error
			if !errors.As(err, &refused) || !strings.Contains(refused.Mend, c.says) {
				t.Errorf("%v, %+v", err, refused)
			}
		})
	}
	// What a session needs it sets itself.
	url := server.Database(t)
	err := server.Exec("postgres", "ALTER DATABASE "+databaseOf(url)+" SET synchronous_commit = off",
		"ALTER DATABASE "+databaseOf(url)+" SET default_transaction_isolation = 'serializable'")
	if err != nil {
		t.Fatal(err)
	}
	db, err := postgres.Open(t.Context(), url, store.Schema{"audit"})
	if err != nil {
		t.Fatal(err)
	}
	db.Close()
}

func TestCheckAddress(t *testing.T) {
	for address, good := range map[string]bool{
		"postgres:///kluis?host=/run/postgresql":                                     true,
		"postgres://kluis@localhost/kluis":                                           true,
		"postgres://kluis@127.0.0.1/kluis":                                           true,
		"host=db.example.com dbname=kluis user=kluis sslmode=verify-full":            true,
		"postgres://kluis@db1.example.com,db2.example.com/kluis?sslmode=verify-full": true,
		"postgres://kluis@db.example.com/kluis":                                      false,
		"postgres://kluis@db.example.com/kluis?sslmode=disable":                      false,
		"postgres://kluis@db.example.com/kluis?sslmode=require":                      false,
		"postgres://kluis@localhost,db.example.com/kluis?sslmode=prefer":             false,
		"postgres://kluis@localhost.example.com/kluis?sslmode=allow":                 false,
		"postgres://kluis@db.example.com/":                                           false,
		"postgres://kluis:geheim@db.example.com:port/kluis":                          false,
		"": false,
	} {
		err := postgres.CheckAddress(address)
		if (err == nil) != good || err != nil && strings.Contains(err.Error(), "geheim") {
			t.Errorf("%s: %v", address, err)
		}
	}
}

func databaseOf(url string) string {
	return strings.TrimPrefix(strings.Split(url, "?")[0], "postgres:///")
}

// What somebody wrote past the server's checks is found.
func TestCheckDatabase(t *testing.T) {
	url := server.Database(t)
	db, err := postgres.Open(t.Context(), url, store.PlatformSchema)
	if err != nil {
		t.Fatal(err)
	}
	defer db.Close()
	found := func() (texts []string) {
		t.Helper()
		if err := db.Check(t.Context(), func(text string) { texts = append(texts, text) }); err != nil {
			t.Fatal(err)
		}
		return texts
	}
	if texts := found(); len(texts) > 0 {
		t.Errorf("a new database: %q", texts)
	}
	exec := func(statements ...string) {
		t.Helper()
		if err := server.Exec(databaseOf(url), statements...); err != nil {
			t.Fatal(err)
		}
	}
	exec("CREATE EXTENSION amcheck", "SET session_replication_role = replica",
		"INSERT INTO scope_link (scope, generation, under, sealed, key_identifier) VALUES ('none', 1, 2, '', '')")
	if texts := found(); len(texts) != 1 || !strings.Contains(texts[0], "1 rows of table scope_link name rows of table scope that do not exist") {
		t.Errorf("a row without its scope: %q", texts)
	}
	exec("ALTER TABLE scope_version ADD CONSTRAINT never CHECK (first < 0) NOT VALID",
		"UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'account_by_name'::regclass")
	if texts := strings.Join(found(), "\n"); !strings.Contains(texts, "constraint never") || !strings.Contains(texts, "index account_by_name") {
		t.Errorf("what is not valid: %s", texts)
	}
	// An index that was made to miss a row, by putting the row where it is not looked for.
	exec("DELETE FROM scope_link", "UPDATE pg_index SET indisvalid = true WHERE indexrelid = 'account_by_name'::regclass",
		"ALTER TABLE scope_version DROP CONSTRAINT never",
		"UPDATE pg_index SET indisready = false, indislive = false WHERE indexrelid = 'audit_entry_by_time'::regclass")
	exec("INSERT INTO audit_entry VALUES (0, 1, '')")
	exec("UPDATE pg_index SET indisready = true, indislive = true WHERE indexrelid = 'audit_entry_by_time'::regclass")
	if texts := found(); len(texts) != 1 || !strings.Contains(texts[0], "The index audit_entry_by_time does not hold together") {
		t.Errorf("an index that misses a row: %q", texts)
	}
}
