package main

import (
	"cmp"
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"
)

var updateDocs = flag.Bool("update-docs", false, "write docs/configuration.md anew")

// The configuration's reference says of every field what the code does: it is made of
// the list of options and of the fields' own comments.
func TestConfigurationReference(t *testing.T) {
	const path = "../../docs/configuration.md"
	want := reference(t)
	if *updateDocs {
		if err := os.WriteFile(path, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(path)
	if err != nil || string(got) != want {
		t.Errorf("docs/configuration.md is out of date: run go test ./cmd/kluis -run TestConfigurationReference -update-docs (%v)", err)
	}
}

// Every option has a flag, and is a field of the file.
func TestOptions(t *testing.T) {
	c := defaultConfig()
	keys := keysOf(&c)
	for _, o := range c.options() {
		if keys[o.into] == "" {
			t.Errorf("--%s sets no field of the file", o.name)
		}
	}
}

// keysOf returns the file's key of each field, by the field's address.
func keysOf(c *Config) map[any]string {
	keys := map[any]string{}
	v := reflect.ValueOf(c).Elem()
	for i := range v.NumField() {
		if key := v.Type().Field(i).Tag.Get("yaml"); key != "" {
			keys[v.Field(i).Addr().Interface()] = key
		}
	}
	return keys
}

// comments returns what is said of each field of each structure of some folders, by
// structure and field.
func comments(t *testing.T, dirs ...string) map[string]string {
	t.Helper()
	all := map[string]string{}
	for _, dir := range dirs {
		files, err := filepath.Glob(filepath.Join(dir, "*.go"))
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range files {
			file, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.ParseComments)
			if err != nil {
				t.Fatal(err)
			}
			ast.Inspect(file, func(n ast.Node) bool {
				spec, ok := n.(*ast.TypeSpec)
				if !ok {
					return true
				}
				s, ok := spec.Type.(*ast.StructType)
				if !ok {
					return true
				}
				for _, f := range s.Fields.List {
					text := strings.Join(strings.Fields(f.Doc.Text()+" "+f.Comment.Text()), " ")
					for _, id := range f.Names {
						all[spec.Name.Name+"."+id.Name] = text
					}
				}
				return true
			})
		}
	}
	return all
}

// reference writes the page.
func reference(t *testing.T) string {
	c := defaultConfig()
	keys := keysOf(&c)
	said := comments(t, "../../vault", "../../rbac", ".") // ours go before theirs
	byField := map[any]option{}
	for _, o := range c.options() {
		byField[o.into] = o
	}
	var b strings.Builder
	b.WriteString(`# Configuration

Made by ` + "`go test ./cmd/kluis -run TestConfigurationReference -update-docs`" + ` from the code; a test fails when it is out of date.

` + "`kluis serve`" + `, and every command that opens what a server keeps, reads flags, ` + "`KLUIS_*`" + ` variables and the YAML file that ` + "`--config`" + ` or
` + "`KLUIS_CONFIG`" + ` names. They mean the same; a flag goes before a variable, and that before the file. Lists are separated by commas in flags
and variables; lengths of time look like ` + "`30s`" + ` or ` + "`5m`" + `. A key that the file does not know is an error, not ignored. ` + "`--database PARTY=URL`" + ` may
be given several times; in ` + "`KLUIS_DATABASE`" + ` the pairs are separated by spaces.

## Flags, variables and keys of the file

| flag | variable | key | default | meaning |
|---|---|---|---|---|
`)
	v := reflect.ValueOf(&c).Elem()
	var own []int // set by the file alone
	for i := range v.NumField() {
		at := v.Field(i).Addr().Interface
		f := v.Type().Field(i)
		if !f.IsExported() {
			continue
		}
		o, ok := byField[at()]
		if !ok {
			own = append(own, i)
			continue
		}
		fmt.Fprintf(&b, "| `--%s` | `%s` | `%s` | %s | %s |\n", o.name, variable(o.name), keys[o.into], standard(v.Field(i)),
			cell(cmp.Or(said["Config."+f.Name], strings.ReplaceAll(o.usage, "`", ""))))
	}
	b.WriteString("\n## Keys of the file alone\n\n| key | default | meaning |\n|---|---|---|\n")
	for _, i := range own {
		f := v.Type().Field(i)
		row(&b, said, "Config", f, f.Tag.Get("yaml"), v.Field(i))
	}
	return b.String()
}

// row writes a field of the file and, below it, the fields that it is made of.
func row(b *strings.Builder, said map[string]string, of string, f reflect.StructField, key string, v reflect.Value) {
	inner := f.Type
	suffix := ""
	for inner.Kind() == reflect.Pointer || inner.Kind() == reflect.Slice || inner.Kind() == reflect.Map {
		if inner.Kind() != reflect.Pointer {
			suffix = "[]"
		}
		inner = inner.Elem()
	}
	fmt.Fprintf(b, "| `%s` | %s | %s |\n", key, standard(v), cell(said[of+"."+f.Name]))
	if inner.Kind() != reflect.Struct || inner == reflect.TypeFor[time.Time]() {
		return
	}
	value := reflect.New(inner).Elem()
	if f.Type.Kind() == reflect.Struct {
		value = v
	}
	fields(b, said, inner, key+suffix, value)
}

func fields(b *strings.Builder, said map[string]string, t reflect.Type, under string, v reflect.Value) {
	for i := range t.NumField() {
		f := t.Field(i)
		tag := f.Tag.Get("yaml")
		if !f.IsExported() && !f.Anonymous {
			continue
		}
		if tag == ",inline" {
			fields(b, said, f.Type, under, reflect.New(f.Type).Elem())
			continue
		}
		name := cmp.Or(tag, strings.ToLower(f.Name))
		row(b, said, t.Name(), f, under+"."+name, v.Field(i))
	}
}

// standard returns a field's default, for the table.
func standard(v reflect.Value) string {
	if v.IsZero() {
		return ""
	}
	switch x := v.Interface().(type) {
	case []string:
		return "`" + strings.Join(x, ",") + "`"
	case string, bool, int, float64, time.Duration:
		return fmt.Sprintf("`%v`", x)
	}
	return ""
}

// cell escapes what a table's cell cannot hold.
func cell(s string) string { return strings.ReplaceAll(s, "|", `\|`) }
