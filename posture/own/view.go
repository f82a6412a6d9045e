package own

import (
	"reflect"
	"strings"
	"time"

	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"

	"github.com/kluis-io/kluis/posture"
)

// A field is one field of a type that expressions see.
type field struct {
	name string
	typ  *types.Type
	doc  string
	get  func(v *view) any
}

// A view is one thing that expressions see. Nothing in it is shared between
// goroutines but what was read.
type view struct {
	kind *kind
	in   *posture.Judged

	resource *posture.Judgement
	object   *posture.Object
	key      posture.KeyRef
	read     *posture.Key        // nil: the key was not read
	version  *posture.KeyVersion // the one in use, nil likewise
	vault    *posture.Vault
	grant    posture.Grant
	log      *posture.AuditLog
	part     posture.Part
	name     string
	texts    []string
}

// A kind is a type that expressions see.
type kind struct {
	name   string
	typ    *types.Type
	fields []field
	byName map[string]*field
}

// A missing value is one that was not read, or is known after apply only.
func missing(what string) *types.Unknown {
	return types.NewUnknown(1, types.NewAttributeTrail(what))
}

// never is the end of a time without end.
var never = time.Date(9999, 12, 31, 0, 0, 0, 0, time.UTC)

// orMissing is s, or missing if a plan left it out: what a plan does not have may be
// known after apply.
func (v *view) orMissing(s, what string) any {
	if s == "" && v.resource.Evidence.Source == "tfplan" {
		return missing(what)
	}
	return s
}

func (v *view) sub(k *kind) *view { return &view{kind: k, in: v.in} }

func (v *view) keyView(ref posture.KeyRef) *view {
	k := v.sub(keyKind)
	k.key, k.read, k.vault = ref, v.in.Inventory.Key(ref), v.in.Inventory.Vault(ref)
	if k.read != nil {
		k.version = k.read.Newest()
		if named := k.read.Versions[ref.Version]; named != nil {
			k.version = named
		}
	}
	return k
}

func (v *view) vaultView(vault *posture.Vault) *view {
	x := v.sub(vaultKind)
	x.vault, x.object = vault, v.in.Inventory.Object(vault.ID)
	return x
}

func (v *view) grants(id string) any {
	if !v.in.GrantsRead() {
		return missing("grants")
	}
	out := []ref.Val{}
	for _, g := range v.in.Grants(id) {
		one := v.sub(grantKind)
		one.grant = g
		out = append(out, one)
	}
	return out
}

// known returns what get returns of the key's version, or that it is missing.
func known(what string, get func(*posture.KeyVersion) any) func(*view) any {
	return func(v *view) any {
		if v.version == nil {
			return missing(what)
		}
		return get(v.version)
	}
}

func moment(what string, t, zero time.Time) any {
	switch {
	case !t.IsZero():
		return t
	case zero.IsZero():
		return missing(what)
	}
	return zero
}

func properties(o *posture.Object) any {
	if o == nil || o.Evidence.Source == "tfplan" {
		return missing("properties") // a plan's are not Resource Manager's
	}
	if o.Flat() {
		return o.Body()
	}
	for name, v := range o.Body() {
		if m, ok := v.(map[string]any); ok && strings.EqualFold(name, "properties") {
			return m
		}
	}
	return map[string]any{}
}

// Methods of ref.Val.

func (v *view) ConvertToNative(reflect.Type) (any, error) { return v, nil }

func (v *view) ConvertToType(t ref.Type) ref.Val {
	if t == types.TypeType {
		return v.kind.typ
	}
	return types.NewErr("%s is no %s", v.kind.name, t.TypeName())
}

func (v *view) Equal(other ref.Val) ref.Val { return types.Bool(v == other) }
func (v *view) Type() ref.Type              { return v.kind.typ }
func (v *view) Value() any                  { return v }

// An adapter makes CEL's values of ours.
type adapter struct{ types.Adapter }

func (a adapter) NativeToValue(value any) ref.Val {
	switch v := value.(type) {
	case *types.Unknown:
		return v
	case *view:
		return v
	case int:
		return types.Int(v)
	case map[string]any:
		return types.NewStringInterfaceMap(a, v)
	case []any:
		return types.NewDynamicList(a, v)
	}
	if value == posture.UnknownValue {
		return missing("properties")
	}
	return a.Adapter.NativeToValue(value)
}

// A provider tells CEL of our types.
type provider struct{ types.Provider }

func (p provider) FindStructType(name string) (*types.Type, bool) {
	if k := kinds[name]; k != nil {
		return types.NewTypeTypeWithParam(k.typ), true
	}
	return p.Provider.FindStructType(name)
}

func (p provider) FindStructFieldNames(name string) ([]string, bool) {
	if k := kinds[name]; k != nil {
		var out []string
		for _, f := range k.fields {
			out = append(out, f.name)
		}
		return out, true
	}
	return p.Provider.FindStructFieldNames(name)
}

func (p provider) FindStructFieldType(name, of string) (*types.FieldType, bool) {
	k := kinds[name]
	if k == nil {
		return p.Provider.FindStructFieldType(name, of)
	}
	f := k.byName[of]
	if f == nil {
		return nil, false
	}
	return &types.FieldType{
		Type:  f.typ,
		IsSet: func(any) bool { return true },
		GetFrom: func(target any) (any, error) {
			v, ok := target.(*view)
			if !ok {
				return target, nil // unknown as a whole
			}
			return f.get(v), nil
		},
	}, true
}
