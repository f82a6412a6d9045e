package posture

import (
	_ "embed"
	"encoding/csv"
	"fmt"
	"strings"
	"sync"
)

// typesCSV is the table of types: what decides whether a resource of a type lies
// under a customer's key. Azure's built-in policy definitions are where its paths
// come from, by the ids in column policy; column confidence says how sure the rest
// is.
//
//go:embed types.csv
var typesCSV string

// Families of types, by what decides.
const (
	KeySource    = "A" // a field says whose key it is
	KeyPresent   = "B" // a key is named, or not
	StatusFlag   = "C" // a switch beside the key
	Indirect     = "D" // a disk encryption set
	ChildSetting = "E" // a child resource, or the parent
	Linked       = "F" // the storage account that it writes to
	AppSettings  = "G" // the storage accounts that its settings name
)

// A Rule is one row of the table of types.
type Rule struct {
	Type, Part string
	Family     string
	APIVersion string
	Policy     string // the built-in policy definition's id, if there is one
	Enable     string // "in-place", "recreate" or "no"
	Condition  string // under which it can be switched on in place
	Back       string // "yes", "partly" or "no": can it go back to a platform's key
	AzShow     string
	AzFix      string
	AzBack     string
	Confidence string // "measured", "published" (its paths) or "believed"

	// Apply says that one PATCH of the resource can put it under a key and back, and which
	// identity asks the vault: "system" or "user" assigned; "" if there is no such PATCH.
	Apply string
	Empty bool // on the way back that PATCH names an empty key, and not null

	// As in the table.
	OnTest, KeyPath, Rotation, Via string

	on       test
	applies  test
	keys     []keySpec
	identity []path
	auto     path
	slots    []slot
	child    string
	direct   path // where the parent itself names its child's key
	link     path
}

// Name returns the type with its part, as controls name it.
func (r *Rule) Name() string {
	if r.Part == "" {
		return r.Type
	}
	return r.Type + "#" + r.Part
}

// keySpec says where a key is named: one URL, or an object with three fields.
type keySpec struct {
	at                 path
	uri, name, version path
}

func parseKeySpec(s string) keySpec {
	base, fields, split := strings.Cut(strings.TrimSuffix(s, "}"), "{")
	k := keySpec{at: parsePath(base)}
	if split {
		f := strings.Split(fields, ",")
		k.uri, k.name, k.version = parsePath(f[0]), parsePath(f[1]), parsePath(f[2])
	}
	return k
}

// A slot is a place for a disk: in a machine, an image, a region.
type slot struct {
	at        path
	set, disk path
}

func parseSlot(s string) slot {
	at, rest, has := strings.Cut(s, ">")
	if !has {
		return slot{set: parsePath(s)}
	}
	set, disk, _ := strings.Cut(rest, "^")
	sl := slot{at: parsePath(at), set: parsePath(set)}
	if disk != "" {
		sl.disk = parsePath(disk)
	}
	return sl
}

// table is the parsed table: its rows, and those of each type in lower case with
// the row of the whole first.
type table struct {
	rows   []*Rule
	byType map[string][]*Rule
}

var types = sync.OnceValue(func() table {
	t, err := parseTypes(typesCSV)
	if err != nil {
		panic(err) // the table is part of the program, and a test reads it
	}
	return t
})

// Types returns the table of types.
func Types() []*Rule { return types().rows }

// RuleFor returns the row of a whole type, nil if the table has none.
func RuleFor(typ string) *Rule {
	if all := types().byType[strings.ToLower(typ)]; len(all) > 0 {
		return all[0]
	}
	return nil
}

func parseTypes(text string) (table, error) {
	rows, err := csv.NewReader(strings.NewReader(text)).ReadAll()
	if err != nil {
		return table{}, fmt.Errorf("types.csv: %w", err)
	}
	t := table{byType: map[string][]*Rule{}}
	for n, row := range rows[1:] {
		col := map[string]string{}
		for i, name := range rows[0] {
			col[name] = row[i]
		}
		r := &Rule{
			Type: col["type"], Part: col["part"], Family: col["family"], APIVersion: col["api_version"], Policy: col["policy"],
			Enable: col["enable"], Condition: col["condition"], Back: col["back"],
			AzShow: col["az_show"], AzFix: col["az_fix"], AzBack: col["az_back"], Confidence: col["confidence"], Apply: col["apply"],
			OnTest: col["on"], KeyPath: col["key"], Rotation: col["rotation"], Via: col["via"],
		}
		r.Apply, _, r.Empty = strings.Cut(r.Apply, ",")
		if err := r.compile(col["identity"], col["applies"]); err != nil {
			return table{}, fmt.Errorf("types.csv:%d: %w", n+2, err)
		}
		t.rows = append(t.rows, r)
		low := strings.ToLower(r.Type)
		t.byType[low] = append(t.byType[low], r)
	}
	return t, nil
}

func (r *Rule) compile(identity, applies string) error {
	r.on, r.applies = parseTest(r.OnTest), parseTest(applies)
	if r.KeyPath != "" {
		for s := range strings.SplitSeq(r.KeyPath, " ; ") {
			r.keys = append(r.keys, parseKeySpec(s))
		}
	}
	if identity != "" {
		for s := range strings.SplitSeq(identity, "|") {
			r.identity = append(r.identity, parsePath(s))
		}
	}
	if a, ok := strings.CutPrefix(r.Rotation, "auto="); ok {
		r.auto = parsePath(a)
	}
	switch r.Family {
	case KeySource, KeyPresent, StatusFlag:
		if r.on == nil && r.keys == nil {
			return fmt.Errorf("%s: nothing decides", r.Name())
		}
	case Indirect:
		// Alternatives for one disk lie in one slot: they name the same kind of thing.
		for s := range strings.SplitSeq(r.Via, " + ") {
			r.slots = append(r.slots, parseSlot(s))
		}
	case ChildSetting:
		child, direct, has := strings.Cut(r.Via, "|")
		r.child = strings.ToLower(child)
		if has {
			r.direct = parsePath(direct)
		}
	case AppSettings:
	case Linked:
		r.link = parsePath(strings.TrimPrefix(r.Via, "alerts:"))
	default:
		return fmt.Errorf("%s: there is no family %q", r.Name(), r.Family)
	}
	return nil
}
