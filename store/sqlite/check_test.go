package sqlite_test

import (
	"database/sql"
	"net/url"
	"strings"
	"testing"

	"github.com/kluis-io/kluis/store"
)

func TestCheckFile(t *testing.T) {
	db := open(t, store.PlatformSchema)
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
	// Somebody else's connection does not ask whether what a row names exists.
	other, err := sql.Open("sqlite", "file:"+(&url.URL{Path: db.Path()}).EscapedPath())
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	if _, err := other.Exec(`INSERT INTO scope_link (scope, generation, under, sealed, key_identifier) VALUES ('none', 1, 2, x'00', '')`); err != nil {
		t.Fatal(err)
	}
	if texts := found(); len(texts) != 1 || !strings.Contains(texts[0], "table scope_link names a row of table scope that does not exist") {
		t.Errorf("a row without its scope: %q", texts)
	}
}
