package postgres_test

import (
	"database/sql"
	"fmt"
	"math"
	"math/rand/v2"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/kluis-io/kluis/store"
	"github.com/kluis-io/kluis/store/postgres"
	"github.com/kluis-io/kluis/store/sqlite"
)

// Every value that a table can hold is the same on the other engine and back, over more
// rows than are read at once, and what was there before is gone.
func TestTransfer(t *testing.T) {
	const columns = "(t TEXT NOT NULL, n INTEGER NOT NULL, b BLOB, s TEXT, PRIMARY KEY (n, t))"
	path, url := filepath.Join(t.TempDir(), "a.db"), server.Database(t)
	schema := store.Schema{"audit"}
	from, err := sqlite.Open(t.Context(), path, schema)
	if err != nil {
		t.Fatal(err)
	}
	defer from.Close()
	to, err := postgres.Open(t.Context(), url, schema)
	if err != nil {
		t.Fatal(err)
	}
	defer to.Close()
	raw, err := sql.Open("sqlite", path)
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	exec := func(query string, args ...any) {
		t.Helper()
		if _, err := raw.Exec(query, args...); err != nil {
			t.Fatal(err)
		}
	}
	exec("CREATE TABLE thing " + columns + " STRICT")
	exec("CREATE TABLE child (id INTEGER PRIMARY KEY, n INTEGER NOT NULL, t TEXT NOT NULL, FOREIGN KEY (n, t) REFERENCES thing (n, t)) STRICT")
	translated := strings.NewReplacer("TEXT", `TEXT COLLATE "C"`, "INTEGER", "BIGINT", "BLOB", "BYTEA")
	other, err := sql.Open("pgx", url)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	for _, statement := range []string{
		"CREATE TABLE thing " + columns, "CREATE TABLE child (id INTEGER PRIMARY KEY, n INTEGER NOT NULL, t TEXT NOT NULL, FOREIGN KEY (n, t) REFERENCES thing (n, t))",
		"INSERT INTO thing VALUES ('old', 1, NULL, NULL)", "INSERT INTO child VALUES (1, 1, 'old')",
	} {
		if _, err := other.Exec(translated.Replace(statement)); err != nil {
			t.Fatal(err)
		}
	}

	r := rand.New(rand.NewPCG(1, 2))
	texts := []any{"", "a", "B", "Ü", "\U0001f511", "a\tb'\"\\", strings.Repeat("long ", 1000)}
	blobs := []any{nil, []byte{}, []byte{0}, []byte{0xff, 0, 1}, make([]byte, 100_000)}
	numbers := []int64{math.MinInt64, -1, 0, 1, math.MaxInt64}
	for i := range 700 {
		n, key := numbers[i%len(numbers)], fmt.Sprint(texts[r.IntN(len(texts)-1)], i)
		exec("INSERT INTO thing VALUES (?, ?, ?, ?)", key, n, blobs[r.IntN(len(blobs))], append(texts, nil)[r.IntN(len(texts)+1)])
		exec("INSERT INTO child VALUES (?, ?, ?)", i, n, key)
	}
	if err := from.Audit().Update(t.Context(), record("act/one")); err != nil {
		t.Fatal(err)
	}

	tables, err := from.Tables(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, table := range tables {
		names = append(names, table.Name)
	}
	if slices.Index(names, "thing") > slices.Index(names, "child") || len(names) != 6 {
		t.Fatalf("the tables come as %v", names)
	}
	if key := tables[slices.Index(names, "thing")].Key; !slices.Equal(key, []string{"n", "t"}) {
		t.Errorf("the key is %v", key)
	}
	want, err := from.Tallies(t.Context(), tables, nil)
	if err != nil {
		t.Fatal(err)
	}
	shown := 0
	written, err := from.CopyTo(t.Context(), to.Domains, tables, func(n int) { shown += n })
	if err != nil {
		t.Fatal(err)
	}
	read, err := to.Tallies(t.Context(), tables, nil)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want, written) + cmp.Diff(want, read); d != "" {
		t.Error(d)
	}
	if rows, err := to.Rows(t.Context(), tables); err != nil || int(rows) != shown || shown < 1401 {
		t.Errorf("%d rows of %d, %v", rows, shown, err)
	}
	exec("DELETE FROM child")
	exec("DELETE FROM thing")
	if _, err := to.CopyTo(t.Context(), from.Domains, tables, nil); err != nil {
		t.Fatal(err)
	}
	if back, err := from.Tallies(t.Context(), tables, nil); err != nil || !cmp.Equal(back, want) {
		t.Errorf("back again: %v, %v", back, err)
	}
	// A single value that differs is seen.
	if _, err := other.Exec("UPDATE thing SET s = '' WHERE s IS NULL AND n = 1"); err != nil {
		t.Fatal(err)
	}
	if changed, err := to.Tallies(t.Context(), tables, nil); err != nil || cmp.Equal(changed, want) {
		t.Errorf("NULL and '' are the same: %v", err)
	}
}

// Whoever wants a database for itself gets it only while nobody else writes.
func TestAlone(t *testing.T) {
	url := server.Database(t)
	one, err := postgres.Open(t.Context(), url, store.Schema{"audit"})
	if err != nil {
		t.Fatal(err)
	}
	two, err := postgres.Open(t.Context(), url, store.Schema{"audit"})
	if err != nil {
		t.Fatal(err)
	}
	defer two.Close()
	if err := one.Audit().Update(t.Context(), record("act/one")); err != nil {
		t.Fatal(err)
	}
	if err := two.Alone(t.Context()); err == nil {
		t.Error("alone beside another who writes")
	}
	one.Close()
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		err := two.Alone(t.Context()) // the server ends a session in its own time
		if err == nil {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
	three, err := postgres.Open(t.Context(), url, store.Schema{"audit"})
	if err != nil {
		t.Fatal(err)
	}
	defer three.Close()
	if err := three.Audit().Update(t.Context(), record("act/two")); err == nil {
		t.Error("another writes beside one who is alone")
	}
	if err := two.Leave(t.Context()); err != nil {
		t.Fatal(err)
	}
	two.Close()
	if err := three.Audit().Update(t.Context(), record("act/two")); err == nil {
		t.Error("a database that was left is written")
	}
	if _, err := postgres.Open(t.Context(), url, store.Schema{"audit"}); err == nil {
		t.Error("a database that was left is opened")
	}
	if err := postgres.Reclaim(t.Context(), url); err != nil {
		t.Fatal(err)
	}
	if err := three.Audit().Update(t.Context(), record("act/two")); err != nil {
		t.Error(err)
	}
}
