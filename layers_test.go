// Package kluis has no code: its test states which package may import which, with
// the reason for each ban. Change a rule by decision, not to mend a build.
package kluis_test

import (
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
)

const module = "github.com/kluis-io/kluis"

// domains are the packages that hold the product's rules, with all below them.
var domains = []string{"fault", "envelope", "audit", "identity", "rbac", "root", "vault", "kek", "encryption", "workspace", "account", "lake", "governance", "witness"}

// platform are the domains of the operator's side.
var platform = []string{"kek", "encryption", "workspace", "account", "lake"}

// A ban says that no package in from imports one in banned. Entries name a folder
// of this module, or another module's path or a standard package, with all below.
type ban struct {
	from   []string
	banned []string
	except []string // packages in from for which the ban does not hold
	reason string
}

var bans = []ban{
	{from: domains, banned: []string{"net/http"}, except: []string{"kek", "posture/azure", "posture/fabric"},
		reason: "a domain knows no protocol: four of them share it"},
	{from: domains, banned: []string{"database/sql", "modernc.org/sqlite", "github.com/pressly/goose"},
		reason: "a domain declares what it stores, and package store decides how"},
	{from: domains, banned: []string{"github.com/Azure"}, except: []string{"kek", "posture/azure", "posture/fabric"},
		reason: "only the way to a customer's vault, and to the estate that is judged, speaks a cloud's protocol"},
	{from: domains, banned: []string{"api", "store", "objstore", "portal"},
		reason: "a domain does not know who calls it or what keeps its rows"},
	{from: []string{"vault"}, banned: platform,
		reason: "the custodian's side knows nothing of what its keys protect"},
	{from: platform, banned: []string{"vault"},
		reason: "the operator reaches a vault over HTTPS alone, its own neighbour included"},
	{from: []string{"fault", "envelope"}, banned: []string{"audit", "identity", "rbac", "root", "encryption"},
		reason: "they are the ground that the others stand on"},
	{from: []string{"witness"}, banned: append([]string{"audit", "vault"}, platform...),
		reason: "it remembers for both parties, and knows neither"},
	{from: []string{"encryption"}, banned: []string{"workspace", "lake"},
		reason: "keys do not know what lies under them"},
	{from: []string{"account"}, banned: []string{"workspace", "lake"},
		reason: "an account is a scope of its own, and does not know its content"},
	{from: []string{"workspace"}, banned: []string{"lake", "account"},
		reason: "a workspace lists items, and does not know their content"},
	{from: []string{"lake"}, banned: []string{"workspace", "account"},
		reason: "the lake asks a Catalog, which the wiring gives it"},
	{from: []string{"posture"}, banned: append([]string{"vault", "audit", "identity", "root", "governance"}, platform...),
		reason: "posture judges kluis as it judges any estate: by what its interfaces tell"},
	{from: []string{"vault", "kek", "encryption", "workspace", "lake"}, banned: []string{"posture", "governance"},
		reason: "what is judged does not know its judge"},
	{from: []string{"governance"}, banned: append([]string{"vault", "root"}, platform...),
		reason: "governance is a party of its own, and reads the others over the wire or from their logs"},
	{from: []string{"api"}, banned: []string{"store", "objstore"},
		reason: "an adapter translates; what it needs, a domain gives it"},
	{from: []string{"portal"}, banned: append([]string{"api", "store", "objstore", "cmd", "posture"}, domains...),
		reason: "the portal holds no right of its own: it reaches every party over HTTPS, as the user who has signed in"},
	{from: []string{"drill"}, banned: append([]string{"api", "store", "objstore", "portal"}, domains...),
		reason: "a drill is a client of vault and platform, as whoever runs it"},
	{from: []string{"internal"}, banned: append([]string{"api", "store", "objstore", "portal"}, domains[4:]...),
		reason: "machinery has no meaning of its own"},
	{from: []string{"fault", "envelope", "audit", "identity", "rbac", "root", "vault", "kek", "encryption", "workspace", "account", "lake", "witness", "api", "store", "objstore", "internal"},
		banned: []string{"cmd"}, reason: "nothing imports the wiring"},
}

// imports returns, for each package's folder, what its own files import. Tests are
// left out, and so are packages that only serve tests, whose names end in "test".
func imports(t *testing.T) map[string][]string {
	t.Helper()
	out := map[string][]string{}
	err := fs.WalkDir(os.DirFS("."), ".", func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if name := d.Name(); p != "." && (strings.HasPrefix(name, ".") || name == "testdata" || name == "node_modules") {
				return fs.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(p, ".go") || strings.HasSuffix(p, "_test.go") || strings.HasSuffix(path.Dir(p), "test") {
			return nil
		}
		f, err := parser.ParseFile(token.NewFileSet(), filepath.FromSlash(p), nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		for _, i := range f.Imports {
			name, err := strconv.Unquote(i.Path.Value)
			if err != nil {
				return err
			}
			name = strings.TrimPrefix(name, module+"/")
			if dir := path.Dir(p); !slices.Contains(out[dir], name) {
				out[dir] = append(out[dir], name)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func under(pkg string, dirs []string) bool {
	return slices.ContainsFunc(dirs, func(d string) bool { return pkg == d || strings.HasPrefix(pkg, d+"/") })
}

func TestLayers(t *testing.T) {
	all := imports(t)
	for _, b := range bans {
		for pkg, names := range all {
			if !under(pkg, b.from) || under(pkg, b.except) {
				continue
			}
			for _, name := range names {
				if under(name, b.banned) {
					t.Errorf("%s imports %s: %s", pkg, name, b.reason)
				}
			}
		}
	}
	for _, d := range domains {
		if all[d] == nil && d != "fault" {
			t.Errorf("there is no package %s any more: mend the rules", d)
		}
	}
}

// sharedWire is what the two dialects of storage, Blob and DFS, have in common on
// the wire. It is no protocol of its own.
const sharedWire = "api/storagewire"

// TestAdaptersApart checks that no wire protocol's adapter leans on another's.
func TestAdaptersApart(t *testing.T) {
	for pkg, names := range imports(t) {
		if !strings.HasPrefix(pkg, "api/") {
			continue
		}
		own := strings.Join(strings.Split(pkg, "/")[:2], "/")
		for _, name := range names {
			if strings.HasPrefix(name, "api/") && !under(name, []string{own, sharedWire}) {
				t.Errorf("%s imports %s: what protocols share belongs in api", pkg, name)
			}
		}
	}
}
