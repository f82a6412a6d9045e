package store_test

import (
	"io/fs"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/pressly/goose/v3"

	"github.com/kluis-io/kluis/store"
)

// Nobody ran these releases: how far the sets had come when the rule was made.
var before = map[string]int64{
	"account": 2, "audit": 2, "encryption": 6, "event": 1, "identity": 2, "lake": 4, "posture": 6, "rbac": 4, "vault": 6, "workspace": 3,
}

// A release serves beside the one before, which must go on with the tables as the newer
// one has left them: each migration only adds, or says who can live with it.
func TestMigrationsOnlyAdd(t *testing.T) {
	sets, err := os.ReadDir("migrations")
	if err != nil {
		t.Fatal(err)
	}
	for _, set := range sets {
		dir, err := store.Migrations(set.Name())
		if err != nil {
			t.Fatal(err)
		}
		files, err := fs.ReadDir(dir, ".")
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range files {
			version, err := goose.NumericComponent(f.Name())
			if err != nil {
				t.Fatal(err)
			}
			text, err := fs.ReadFile(dir, f.Name())
			if err != nil {
				t.Fatal(err)
			}
			if strings.Contains(string(text), "+goose Down") {
				t.Errorf("%s/%s: migrations only go forward", set.Name(), f.Name())
			}
			if version > before[set.Name()] {
				for _, fault := range faults(string(text), version) {
					t.Errorf("%s/%s: %s", set.Name(), f.Name(), fault)
				}
			}
		}
	}
}

var (
	oldest   = regexp.MustCompile(`(?m)^--.*kluis:oldest.*$`)
	comments = regexp.MustCompile(`--[^\n]*`)
	made     = regexp.MustCompile(`(?i)^CREATE TABLE (\w+)`)
	added    = regexp.MustCompile(`(?i)^ALTER TABLE (\w+) ADD COLUMN`)
	indexed  = regexp.MustCompile(`(?i)^CREATE (UNIQUE )?INDEX \w+ ON (\w+)`)
	filled   = regexp.MustCompile(`(?i)^INSERT INTO (\w+)`)
	unindex  = regexp.MustCompile(`(?i)^DROP INDEX `)
)

// faults returns what a migration to a version does that the release before may not live
// with, unless it says which release can.
func faults(text string, version int64) (all []string) {
	if line := oldest.FindString(text); line != "" {
		n, err := strconv.ParseInt(strings.TrimPrefix(line, "-- kluis:oldest "), 10, 64)
		if err != nil || n < 1 || n > version {
			all = append(all, "the line is \"-- kluis:oldest N\", with a version up to its own: "+line)
		}
		return all
	}
	fresh := map[string]bool{}
	for statement := range strings.SplitSeq(comments.ReplaceAllString(text, ""), ";") {
		statement = strings.Join(strings.Fields(statement), " ")
		upper := strings.ToUpper(statement)
		if m := made.FindStringSubmatch(statement); m != nil {
			fresh[m[1]] = true
			continue
		}
		if m := added.FindStringSubmatch(statement); m != nil {
			if !fresh[m[1]] && strings.Contains(upper, "NOT NULL") && !strings.Contains(upper, "DEFAULT") {
				all = append(all, "the release before gives the new column nothing: "+statement)
			}
			if !fresh[m[1]] && (strings.Contains(upper, "CHECK") || strings.Contains(upper, "UNIQUE")) {
				all = append(all, "a column of a table that is used binds the release before: "+statement)
			}
			continue
		}
		if m := indexed.FindStringSubmatch(statement); m != nil {
			if m[1] != "" && !fresh[m[2]] {
				all = append(all, "the release before may write what the index refuses: "+statement)
			}
			continue
		}
		if m := filled.FindStringSubmatch(statement); m != nil && fresh[m[1]] || unindex.MatchString(statement) || statement == "" {
			continue
		}
		all = append(all, "it does more than add: "+statement)
	}
	return all
}

func TestFaultsOfMigrations(t *testing.T) {
	for text, good := range map[string]bool{
		"-- +goose Up\nCREATE TABLE a (b TEXT) STRICT;\nCREATE UNIQUE INDEX i ON a (b);\nINSERT INTO a SELECT c FROM d;": true,
		"ALTER TABLE a ADD COLUMN b TEXT NOT NULL DEFAULT '';\nCREATE INDEX i ON a (b);":                                 true,
		"-- kluis:oldest 3\nDROP TABLE a;":                true,
		"-- kluis:oldest 9\nDROP TABLE a;":                false,
		"-- kluis:oldest three\nDROP TABLE a;":            false,
		"DROP TABLE a;":                                   false,
		"ALTER TABLE a RENAME TO b;":                      false,
		"ALTER TABLE a ADD COLUMN b TEXT NOT NULL;":       false,
		"ALTER TABLE a ADD COLUMN b TEXT CHECK (b = '');": false,
		"CREATE UNIQUE INDEX i ON a (b);":                 false,
		"UPDATE a SET b = 1;":                             false,
	} {
		if found := faults(text, 7); (len(found) == 0) != good {
			t.Errorf("%s: %q", text, found)
		}
	}
}
