package lake_test

import (
	"bytes"
	"cmp"
	"context"
	"flag"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/lake"
)

// A model is what the tree should be: files by path, folders by path.
type model struct {
	files   map[string][]byte
	folders map[string]bool
}

func (m *model) parents(path string) {
	for i := range path {
		if path[i] == '/' {
			m.folders[path[:i]] = true
		}
	}
}

// blocked reports whether a file stands where the path needs a folder.
func (m *model) blocked(path string) bool {
	for i := range path {
		if _, file := m.files[path[:i]]; path[i] == '/' && file {
			return true
		}
	}
	return false
}

func (m *model) below(dir string) (paths []string) {
	for f := range m.files {
		if strings.HasPrefix(f, dir+"/") {
			paths = append(paths, f)
		}
	}
	for f := range m.folders {
		if strings.HasPrefix(f, dir+"/") {
			paths = append(paths, f+"!")
		}
	}
	slices.SortFunc(paths, func(a, b string) int {
		return cmp.Compare(strings.TrimSuffix(a, "!"), strings.TrimSuffix(b, "!"))
	})
	return paths
}

// write returns what writing a file to the path should answer, and does it.
func (m *model) write(path string, body []byte) fault.Reason {
	if m.blocked(path) || m.folders[path] {
		return fault.PathConflict
	}
	m.parents(path)
	m.files[path] = body
	return ""
}

func (m *model) remove(path string) {
	delete(m.files, path)
	delete(m.folders, path)
	maps.DeleteFunc(m.files, func(p string, _ []byte) bool { return strings.HasPrefix(p, path+"/") })
	maps.DeleteFunc(m.folders, func(p string, _ bool) bool { return strings.HasPrefix(p, path+"/") })
}

// rename returns what renaming should answer, and does it.
func (m *model) rename(from, to string) fault.Reason {
	_, isFile := m.files[from]
	switch {
	case m.blocked(from):
		return fault.PathConflict
	case !isFile && !m.folders[from]:
		return fault.SourceNotFound
	case m.blocked(to):
		return fault.PathConflict
	case !m.folders[to[:strings.LastIndexByte(to, '/')]] && strings.Count(to, "/") > 1:
		return fault.PathNotFound
	case strings.HasPrefix(to, from+"/"):
		return fault.InvalidRename
	case from == to:
		return ""
	}
	if _, file := m.files[to]; m.folders[to] && isFile || file && !isFile {
		return fault.PathConflict
	}
	if m.folders[to] && len(m.below(to)) > 0 {
		return fault.DirectoryNotEmpty
	}
	m.remove(to)
	files, folders := map[string][]byte{}, map[string]bool{}
	for p, b := range m.files {
		if p == from || strings.HasPrefix(p, from+"/") {
			files[to+p[len(from):]] = b
		}
	}
	for p := range m.folders {
		if p == from || strings.HasPrefix(p, from+"/") {
			folders[to+p[len(from):]] = true
		}
	}
	m.remove(from)
	maps.Copy(m.files, files)
	maps.Copy(m.folders, folders)
	return ""
}

// Random operations do to the lake what they do to a map, re-encryption and
// restarts in between.
func TestModel(t *testing.T) {
	defer lake.SetMaxExtent(40_000)()
	defer lake.SetMaxSeals(25)()
	defer lake.SetMaxAtOnce(2)()
	if f := flag.Lookup("rapid.checks"); f.Value.String() == f.DefValue {
		f.Value.Set("8") // each is some hundred durable transactions; ask for more by the flag
		defer f.Value.Set(f.DefValue)
	}
	rapid.Check(t, func(t *rapid.T) {
		dir, err := os.MkdirTemp("", "lake")
		must(t, err)
		t.Cleanup(func() { os.RemoveAll(dir) })
		p := start(t, dir)
		m := &model{files: map[string][]byte{}, folders: map[string]bool{"Files": true}}
		paths := rapid.Map(rapid.SliceOfN(rapid.SampledFrom([]string{"a", "b", "a.x", "é"}), 1, 3),
			func(s []string) string { return "Files/" + strings.Join(s, "/") })
		contents := rapid.Custom(func(t *rapid.T) []byte {
			n := rapid.SampledFrom([]int{0, 5, lake.MaxInline, lake.MaxInline + 1, 90_000}).Draw(t, "size")
			return random(n, rapid.Uint64().Draw(t, "seed"))
		})
		want := func(op string, err error, reason fault.Reason) {
			t.Helper()
			if got := fault.ReasonOf(err); got != reason {
				t.Fatalf("%s: %q (%v), want %q", op, got, err, reason)
			}
		}
		ctx := context.Background()
		assigned := false
		t.Repeat(map[string]func(*rapid.T){
			"put": func(t *rapid.T) {
				path, body := paths.Draw(t, "path"), contents.Draw(t, "body")
				_, err := p.Put(ctx, p.caller, at(path), bytes.NewReader(body), -1, lake.PutOptions{})
				want("put "+path, err, m.write(path, body))
			},
			"blocks": func(t *rapid.T) {
				path := paths.Draw(t, "path")
				var list []lake.BlockRef
				var all []byte
				conflict := m.blocked(path) || m.folders[path]
				for i, b := range rapid.SliceOfN(contents, 1, 3).Draw(t, "blocks") {
					id := fmt.Sprintf("block%d", i)
					_, err := p.StageBlock(ctx, p.caller, at(path), id, bytes.NewReader(b), -1, lake.StageOptions{})
					if conflict {
						want("stage "+path, err, fault.PathConflict)
						return
					}
					want("stage "+path, err, "")
					list, all = append(list, lake.BlockRef{ID: id}), append(all, b...)
				}
				if rapid.Bool().Draw(t, "committed") {
					_, err := p.CommitBlocks(ctx, p.caller, at(path), list, lake.PutOptions{})
					want("commit "+path, err, m.write(path, all))
				}
			},
			"append": func(t *rapid.T) {
				path, body := paths.Draw(t, "path"), contents.Draw(t, "body")
				old, ok := m.files[path]
				if !ok {
					return
				}
				_, err := p.Append(ctx, p.caller, at(path), int64(len(old)), bytes.NewReader(body), -1, lake.StageOptions{})
				want("append "+path, err, "")
				_, err = p.Flush(ctx, p.caller, at(path), int64(len(old)+len(body)), lake.FlushOptions{})
				want("flush "+path, err, "")
				m.files[path] = append(bytes.Clone(old), body...)
			},
			"mkdir": func(t *rapid.T) {
				path := paths.Draw(t, "path")
				_, err := p.Create(ctx, p.caller, at(path), lake.Folder, lake.PutOptions{})
				if _, file := m.files[path]; file || m.blocked(path) {
					want("mkdir "+path, err, fault.PathConflict)
					return
				}
				want("mkdir "+path, err, "")
				m.parents(path)
				m.folders[path] = true
			},
			"delete": func(t *rapid.T) {
				path, recursive := paths.Draw(t, "path"), rapid.Bool().Draw(t, "recursive")
				err := p.Delete(ctx, p.caller, at(path), recursive, lake.Conditions{})
				_, file := m.files[path]
				switch {
				case m.blocked(path):
					want("delete "+path, err, fault.PathConflict)
				case !file && !m.folders[path]:
					want("delete "+path, err, fault.PathNotFound)
				case !recursive && len(m.below(path)) > 0:
					want("delete "+path, err, fault.DirectoryNotEmpty)
				default:
					want("delete "+path, err, "")
					m.remove(path)
				}
			},
			"rename": func(t *rapid.T) {
				from, to := paths.Draw(t, "from"), paths.Draw(t, "to")
				_, err := p.Rename(ctx, p.caller, at(from), at(to), lake.RenameOptions{})
				want("rename "+from+" "+to, err, m.rename(from, to))
			},
			"range": func(t *rapid.T) {
				for path, body := range m.files {
					if len(body) == 0 {
						continue
					}
					off := rapid.Int64Range(0, int64(len(body)-1)).Draw(t, "offset")
					n := rapid.Int64Range(1, 50_000).Draw(t, "count")
					got, err := p.get(ctx, path, lake.Range{Offset: off, Count: n})
					want("range of "+path, err, "")
					if !bytes.Equal(got, body[off:min(off+n, int64(len(body)))]) {
						t.Fatalf("a range of %s differs", path)
					}
					break
				}
			},
			"sweep": func(t *rapid.T) { must(t, p.Sweep(ctx)) },
			"assign": func(t *rapid.T) {
				if !assigned && rapid.IntRange(0, 3).Draw(t, "now") == 0 {
					assigned = true
					p.assign(t)
					p.wantOneKey(t)
				}
			},
			"restart": func(t *rapid.T) {
				must(t, p.db.Close())
				p.open(t)
			},
			"": func(t *rapid.T) {
				l, err := p.List(ctx, p.caller, at("Files"), lake.ListOptions{Recursive: true})
				want("list", err, "")
				var got []string
				for _, e := range l.Entries {
					name := strings.TrimPrefix(e.Name, "lh.Lakehouse/")
					if e.Kind == lake.Folder {
						name += "!"
					} else if e.Size != int64(len(m.files[name])) {
						t.Fatalf("%s is listed with %d bytes", name, e.Size)
					}
					got = append(got, name)
				}
				if all := m.below("Files"); !slices.Equal(got, all) {
					t.Fatalf("listed %v, want %v", got, all)
				}
				for path, body := range m.files {
					p.wantContent(t, path, body)
					break
				}
			},
		})
	})
}
