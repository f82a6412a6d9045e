package store_test

import (
	"testing"

	"github.com/kluis-io/kluis/store"
)

func TestWritten(t *testing.T) {
	for query, want := range map[string]string{
		"INSERT INTO lake_node (id) VALUES ($1)":        "lake_node",
		"\n\tUPDATE scope SET x = 1":                    "scope",
		"DELETE FROM workspace WHERE id = 1":            "workspace",
		"INSERT INTO role_assignment\n\t\t(id, tenant)": "role_assignment",
		"SELECT 1": "",
	} {
		if got := store.Written(query); got != want {
			t.Errorf("%q writes to %q, want %q", query, got, want)
		}
	}
}
