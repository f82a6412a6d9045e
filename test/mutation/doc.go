package main

import (
	"fmt"
	"strings"
)

// A Threat is one of those that the design names.
type Threat struct {
	ID, Name string
	Guard    string // what stands against it
}

var threats = []Threat{
	{"T1", "storage thief", "everything is under AEAD: contents, names, metadata, block lists, temporary files"},
	{"T2", "database thief, who reads", "rows hold wrapped keys only; a client's secrets are hashed, the vault's private keys sealed under its root"},
	{"T3", "database writer, who swaps or forges keys", "each sealed value is bound to its place by its context, each generation's row by the root with all its plain columns; the commitment is checked after every unwrap"},
	{"T4", "objects swapped, cut, reordered, copied to another tenant", "contexts name tenant, workspace, item, key and object; the last chunk is short; keys are committed to"},
	{"T5", "a tenant assigns another's key (confused deputy)", "the token is asked for in the scope's own directory, and the challenge's tenant must equal it; the caller must be of the workspace's tenant, and may assign there"},
	{"T6", "requests where a key identifier leads (SSRF)", "typed parse, https alone, host suffixes with their dot, address checked when it is dialled, no redirects, no proxy, capped replies, one error for all causes"},
	{"T7", "a token leaks to a fake vault", "the audience is our configuration's, and never the challenge's, which is checked before anything acts on it"},
	{"T8", "rollback of metadata", "epochs in sealed rows, and a witness outside the database for every scope and for the audit log"},
	{"T9", "stolen machine", "the root is sealed on the disk, and leases end by themselves"},
	{"T10", "a vault that lies", "kid compared, commitment checked, every wrap unwrapped and compared before the old one goes, replies and times bounded"},
	{"T11", "tokens replayed or stolen", "at most an hour; audience, issuer, tenant and times checked; a disabled principal's tokens stop at once; the platform's may be tied to its certificate (separation.md)"},
	{"T12", "algorithm confusion in tokens", "an allow-list per issuer's key; header references are ignored, critical extensions refused"},
	{"T13", "malicious administrator of a tenant", "rights are evaluated per tenant, scope and action; duties can be kept apart, and what is grave needs a second person"},
	{"T14", "sabotage by a key's custodian", "soft delete and purge protection are demanded when a key is assigned, and looked at again"},
	{"T15", "padding oracle of RSA1_5", "off unless a key's tag allows it; implicit rejection; the platform never uses it"},
	{"T16", "errors that tell, names that can be guessed", "who lacks a right learns the same of what is there and of what is not"},
	{"T17", "flood of key operations", "limits per vault and tenant; turns that are fair between tenants and between their vaults"},
	{"T18", "a key in memory after its revocation", "the lease is checked at every chunk; a no ends it, and overwrites what lies below"},
	{"T19", "what is left in memory", "keys are overwritten when dropped, and what they are derived in too"},
	{"T20", "core dumps, tracing, swap", "RLIMIT_CORE 0, PR_SET_DUMPABLE 0; memory locked where the system allows it"},
	{"T21", "backups that outlive a shredding", "re-encryption under a new generation, and old keys destroyed with it"},
	{"T22", "secrets in logs and errors", "keys print as a fixed word; entries and logs carry ids alone"},
	{"T23", "silent downgrade to platform-managed keys", "reset is explicit and needs a fresh yes; a failure never falls back; new data goes under the sealing generation alone"},
	{"T24", "a state that changes between check and use", "epoch, serial and lease are checked in the transaction that publishes; a use of a key is decided again when it is recorded"},
	{"T25", "an insider edits the audit log", "Merkle log with signed checkpoints, one of them outside; an act that cannot be recorded is not done"},
	{"T26", "paths that trick, pages that are tricked", "one parser of paths for all protocols, which decodes once and refuses what has no single meaning"},
}

// document is docs/threats.md.
func document() string {
	var b strings.Builder
	b.WriteString(`# Threats, their tests, and what the tests are worth

Each threat of the design has tests, and each test is shown to notice: a *break* takes the mitigation out of the source, and the
test has to fail. A mitigation whose test never failed does not count. ` + "`make mutation`" + ` does it; [proof.md](proof.md) has the last
result. Breaks are edits in an overlay that only the test's build sees (test/mutation/breaks.go, from which this page is
generated): production code holds nothing for the purpose.

| | threat | what stands against it | break | noticed by |
|---|---|---|---|---|
`)
	for _, t := range threats {
		first := true
		for _, br := range breaks {
			if br.Threat != t.ID {
				continue
			}
			id, name, guard := t.ID, t.Name, t.Guard
			if !first {
				id, name, guard = "", "", ""
			}
			first = false
			fmt.Fprintf(&b, "| %s | %s | %s | %s | `%s` %s |\n", id, name, guard, br.Does, strings.TrimPrefix(br.Package, "./"), br.Test)
		}
	}
	b.WriteString("\nNot covered by a break: " + strings.Join(uncovered, "; ") + ".\n")
	return b.String()
}

// uncovered is what no break has been made for, and why.
var uncovered = []string{
	"swap (T20), which is the machine's business where memory may not be locked",
	"live memory against the host's root, and AES key schedules on the heap (T19), which are not protected",
	"the portal's pages (T26), which have their own tests",
	"what needs several replicas",
}
