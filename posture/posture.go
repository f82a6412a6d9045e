// Package posture judges what a data estate's keys look like from outside: which
// resources lie under a customer's key, whether that key, its vault, its grants
// and its log are fit for it, and what to do where they are not.
//
// A source (the folders below) reads resources wherever they can be read and adds
// them to an [Inventory], which brings every dialect into one shape with its
// evidence. [Judge] holds an inventory against a [Policy] and gives a [Scan]. Both
// work on what they are given: they call nobody, keep nothing, and say "unknown"
// where the inventory does not hold the answer. Nothing unknown ever passes.
package posture

import (
	"net/url"
	"strings"
	"time"
)

// A State says whether a resource lies under a customer's key.
type State string

const (
	// On: everything the type can put under a customer's key is under one.
	On State = "on"
	// Off: nothing is.
	Off State = "off"
	// Partial: some of it is, or the resource asks for a key and names none.
	Partial State = "partial"
	// Unknown: the inventory does not tell; a plan's value is known after apply only.
	Unknown State = "unknown"
	// NotSupported: the resource's kind or tier cannot have a customer's key.
	NotSupported State = "not-supported"
)

// join returns the state of a whole of which a and b are parts. The empty state is
// no part at all.
func (a State) join(b State) State {
	switch {
	case a == "" || a == b:
		return b
	case b == "":
		return a
	case a == Unknown || b == Unknown:
		return Unknown
	}
	return Partial
}

// An Evidence is where a fact was read: enough to find it again, and to show that
// it was not changed since.
type Evidence struct {
	Source string    `json:"source"`           // "export", "azure", "fabric", "tfplan"
	Time   time.Time `json:"time"`             // when it was read, or the file's time
	SHA256 string    `json:"sha256,omitempty"` // of the JSON as read, in hex
	Path   string    `json:"path"`             // file and JSON pointer, URL, or Terraform address
}

// A KeyRef names a key as a resource does. Its zero value names none.
type KeyRef struct {
	Vault   string `json:"vault,omitempty"` // the vault's host, in lower case, or its resource id
	Name    string `json:"name,omitempty"`
	Version string `json:"version,omitempty"` // empty: always the newest
}

// ParseKeyRef reads a key URL, https://VAULT/keys/NAME[/VERSION]. Anything else
// gives the zero KeyRef.
func ParseKeyRef(s string) KeyRef {
	u, err := url.Parse(strings.TrimSpace(s))
	if err != nil || u.Host == "" {
		return KeyRef{}
	}
	p := strings.Split(strings.Trim(u.Path, "/"), "/")
	if len(p) < 2 || !strings.EqualFold(p[0], "keys") || p[1] == "" {
		return KeyRef{}
	}
	k := KeyRef{Vault: strings.ToLower(u.Host), Name: p[1]}
	if len(p) > 2 {
		k.Version = p[2]
	}
	return k
}

// IsZero reports whether k names no key.
func (k KeyRef) IsZero() bool { return k.Name == "" }

// URL returns the key as its vault names it.
func (k KeyRef) URL() string {
	if k.IsZero() {
		return ""
	}
	s := "https://" + k.Vault + "/keys/" + k.Name
	if k.Version != "" {
		s += "/" + k.Version
	}
	return s
}

// versionless returns the key without its version, with its name in lower case:
// names are compared without regard to case.
func (k KeyRef) versionless() KeyRef {
	return KeyRef{Vault: k.Vault, Name: strings.ToLower(k.Name)}
}

// A CMK is what a resource says of its customer-managed key.
type CMK struct {
	State       State    `json:"state"`
	Why         string   `json:"why,omitempty"` // where the state does not speak for itself
	Keys        []KeyRef `json:"keys,omitempty"`
	Versionless bool     `json:"versionless"`        // every key follows its newest version
	InUse       string   `json:"inUse,omitempty"`    // the version that it uses now, where the resource tells
	Identity    string   `json:"identity,omitempty"` // the user-assigned identity, or its client id, that reads the key
	Via         []string `json:"via,omitempty"`      // the resources through which the key was found, nearest first
}

// An Identity is a resource's managed identity.
type Identity struct {
	Type         string            `json:"type,omitempty"`
	PrincipalID  string            `json:"principalId,omitempty"`
	Tenant       string            `json:"tenantId,omitempty"`
	UserAssigned map[string]string `json:"userAssigned,omitempty"` // resource id in lower case to principal id, "" where it is not told
}

// principals returns the principals that may read the key for cmk.
func (i Identity) principals(cmk CMK) []string {
	if p := i.UserAssigned[strings.ToLower(cmk.Identity)]; p != "" {
		return []string{p}
	}
	var out []string
	if i.PrincipalID != "" {
		out = append(out, i.PrincipalID)
	}
	if i.PrincipalID == "" || cmk.Identity != "" {
		for _, p := range i.UserAssigned {
			if p != "" {
				out = append(out, p)
			}
		}
	}
	return out
}

// A Part is something in a resource that is under the customer's key, or not, for
// itself: the queues of a storage account.
type Part struct {
	Name string `json:"name"`
	CMK  CMK    `json:"cmk"`
}

// A Resource is one thing that can lie under a customer's key, however it was read.
type Resource struct {
	ID       string            `json:"id"`
	Type     string            `json:"type"` // as in the table of types
	Name     string            `json:"name"`
	Group    string            `json:"resourceGroup,omitempty"`
	Location string            `json:"location,omitempty"`
	Tags     map[string]string `json:"tags,omitempty"`
	Identity Identity          `json:"identity"`
	CMK      CMK               `json:"cmk"`
	Parts    []Part            `json:"parts,omitempty"`
	Evidence Evidence          `json:"evidence"`

	rule      *Rule
	parts     []*Rule // of Parts, in their order
	links     []link  // what decides CMK, where the resource itself does not
	geo       geo
	federated bool     // its key is in another tenant, on purpose
	app       *app     // of an App Service or Functions app
	later     []string // tags known after apply

	sensitivity string // the id of its label, of a Fabric workspace
}

// Rule returns the type's row in the table of types.
func (r *Resource) Rule() *Rule { return r.rule }

// A geo is a server's geographically redundant backup.
type geo struct {
	redundant bool
	key       KeyRef
	later     bool // known after apply
}

// Kinds of links.
const (
	linkSet     = "disk encryption set"
	linkDisk    = "disk"
	linkAccount = "storage account"
	linkAlerts  = "workspace with an account for alerts"
	linkParent  = "server"
	linkHidden  = "setting" // whose account stands in a secret
)

// A link says that what lies under target decides about a resource.
type link struct {
	kind   string
	target string // a resource id in lower case, or an account's name; empty: there is none
	or     string // a disk encryption set, if target is a disk that the inventory lacks
	known  bool   // false: the target is known after apply only
}

// Gap is something that a source could not read. A scan with gaps says so.
type Gap struct {
	What     string    `json:"what"`
	Why      string    `json:"why"`
	Evidence *Evidence `json:"evidence,omitempty"` // of the attempt, where there was one
}
