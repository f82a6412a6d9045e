package keyvault

import (
	"encoding/json"

	"github.com/kluis-io/kluis/fault"
)

// Row returns what a reason becomes.
func Row(r fault.Reason) (status int, code string) { return rows[r].status, rows[r].code }

// RowCount returns how many reasons have a row.
func RowCount() int { return len(rows) }

// Parse takes a path apart.
func Parse(path string) (named bool, name, version string, ok bool) {
	r, ok := parse(path)
	return r.kind.named(), r.name, r.version, ok
}

// ReadBodies reads a body as each operation would.
func ReadBodies(b []byte) {
	var c createBody
	if json.Unmarshal(b, &c) == nil {
		c.spec()
	}
	var u updateBody
	if json.Unmarshal(b, &u) == nil {
		u.update()
	}
	var i importBody
	if json.Unmarshal(b, &i) == nil {
		i.Key.private()
		i.Key.wrapped("https://kv1.vault.localhost")
	}
	var p policyBody
	if json.Unmarshal(b, &p) == nil {
		p.policy()
	}
	var o useBody
	json.Unmarshal(b, &o)
}
