package main

// breaks are the mistakes, in the order of the threats.
var breaks = []Break{
	{"T1", "what lies in the database is stored as it came", []Edit{
		{"encryption/key.go", `sealed = envelope.Seal(key, k.context(purpose, object...), plaintext)`, `sealed = append(sealed, plaintext...)`},
		{"encryption/key.go", `plaintext, err = envelope.Open(key, k.context(purpose, object...), sealed)`, `plaintext = append(plaintext, sealed...)`},
	}, "./lake", "TestCanaries"},
	{"T1", "whatever is sealed holds its plaintext, extents and names too", []Edit{
		{"envelope/message.go", "	return aead\n}\n\nfunc errSize() error {", `	return unsealed{aead}
}

type unsealed struct{ cipher.AEAD }

func (u unsealed) Seal(dst, nonce, plain, data []byte) []byte {
	return append(append(dst, plain...), make([]byte, u.Overhead())...)
}

func (u unsealed) Open(dst, nonce, sealed, data []byte) ([]byte, error) {
	return append(dst, sealed[:len(sealed)-u.Overhead()]...), nil
}

func errSize() error {`},
	}, "./lake", "TestCanaries"},

	{"T2", "private keys lie in the vault's database as they are", []Edit{
		{"vault/softkey/softkey.go", `m.Sealed = envelope.Seal(k.root, k.context(ref), octets)`, `m.Sealed = append([]byte(nil), octets...)`},
		{"vault/softkey/softkey.go", `private, err := envelope.Open(k.root, k.context(ref), m.Sealed)`, `private, err := append([]byte(nil), m.Sealed...), error(nil)`},
	}, "./vault/softkey", "TestSealedKeyIsBound"},

	{"T3", "a generation's row is bound to no key version", []Edit{
		{"encryption/rows.go", `g.KeyIdentifier, string(g.KID), string(g.State)).`, `g.KeyIdentifier, string(g.State)).`},
	}, "./encryption", "TestGenerationRowBinds"},
	{"T3", "an item's key is bound to no item", []Edit{
		{"encryption/rows.go", `With(string(row.Item), string(row.ID), string(row.Purpose))`, `With(string(row.Purpose))`},
	}, "./encryption", "TestSwapMatrix"},
	{"T3", "any share that a vault gives is believed: a forged one too", []Edit{
		{"encryption/open.go", `if !commitment.Equal(sh.commitment) {`, `if commitment == (envelope.Commitment{}) {`},
	}, "./encryption", "TestLyingVault"},

	{"T4", "a message is bound to no place", []Edit{
		{"envelope/message.go", `messageInfo+string(salt)+ctx.encoded`, `messageInfo+string(salt)`},
	}, "./envelope", "TestSwapBetweenPlaces"},
	{"T4", "a message that is cut at a chunk's end is whole", []Edit{
		{"envelope/reader.go", `if len(sealed) < TagSize || r.next >= maxChunks {`, `if len(sealed) == 0 { r.err = io.EOF; return nil, io.EOF }; if len(sealed) < TagSize || r.next >= maxChunks {`},
	}, "./envelope", "TestMutationSweep"},
	{"T4", "no commitment to the key is checked", []Edit{
		{"envelope/message.go", `if subtle.ConstantTimeCompare(m.commitment[:], header[SaltSize:HeaderSize]) != 1 {`, `if subtle.ConstantTimeCompare(nil, nil) != 1 {`},
	}, "./envelope", "TestMutationSweep"},

	{"T5", "a vault of any directory will do", []Edit{
		{"kek/token.go", `!strings.EqualFold(asked, tenant) {`, `asked == "" {`},
	}, "./kek", "TestForeignTenantsKey"},
	{"T5", "a caller of another tenant may put a workspace under his key", []Edit{
		{"encryption/scopes.go", `if sc.Tenant != caller.Tenant {`, `if false {`},
	}, "./encryption", "TestRights"},

	{"T6", "vaults may have any address", []Edit{
		{"kek/dial.go", `if err != nil || !dialable(ap.Addr(), inside) {`, `if err != nil || !dialable(ap.Addr(), inside) && false {`},
	}, "./kek", "TestHoneypot"},
	{"T6", "a host that ends like a vault's is a vault's", []Edit{
		{"kek/identifier.go", `if ok && len(s) > 1 && s[0] == '.' && vaultLabel(label) {`, `if ok && len(s) > 1 && label != "" {`},
	}, "./kek", "TestHostileIdentifiers"},
	{"T6", "redirects are followed", []Edit{
		{"kek/dial.go", `return http.ErrUseLastResponse`, `return nil`},
	}, "./kek", "TestAnswers"},

	{"T7", "a vault names the audience of the token that it gets", []Edit{
		{"kek/token.go", "\tif !sameResource(resource, audience) {\n", "\tif resource == \"\" {\n"},
	}, "./kek", "TestFakeVaultGetsNoToken"},

	{"T8", "an older row of a scope is taken", []Edit{
		{"witness/witness.go", `case mark != nil && (mark.Epoch > next.Epoch || mark.Generation > next.Generation || mark.Epoch == next.Epoch && mark.Generation != next.Generation):`, `case false:`},
	}, "./encryption", "TestOldRowsPutBack"},
	{"T8", "an older database is served", []Edit{
		{"audit/resume.go", `if c.Serial >= l.newest.Serial || c.Size >= l.newest.Size {`, `if c.Serial >= l.newest.Serial || c.Size >= l.newest.Size {
		return false, nil
	}
	if false {`},
	}, "./test/system", "TestRollback"},

	{"T9", "a root opens with any passphrase", []Edit{
		{"root/seal.go", `return argon2.IDKey(s.passphrase, a.Salt,`, `return argon2.IDKey(nil, a.Salt,`},
	}, "./root", "TestRefusals"},

	{"T10", "the kid of an answer is not compared", []Edit{
		{"kek/client.go", `case KID(value(out.KID)) != kid:`, `case out.KID == nil:`},
	}, "./kek", "TestLies"},
	{"T10", "the old wrap goes before the new one was seen to open", []Edit{
		{"encryption/rotate.go", `if !equal(back, share[:]) {`, `if len(back) == 0 {`},
	}, "./encryption", "TestRotateToABadVersion"},
	{"T10", "a vault's reply is read to its end, however long", []Edit{
		{"kek/dial.go", `const maxReply = 64 << 10`, `const maxReply = 256 << 20`},
	}, "./kek", "TestAnswers"},

	{"T11", "a token does not expire", []Edit{
		{"identity/verifier.go", `case !now.Before(t.expires.Add(Skew)):`, `case false:`},
	}, "./identity", "TestVerifyRefuses"},
	{"T11", "a token for anybody is a token for us", []Edit{
		{"identity/verifier.go", `if !meant {`, `if !meant && len(t.audiences) == 0 {`},
	}, "./identity", "TestVerifyRefuses"},
	{"T11", "a voided token goes on", []Edit{
		{"identity/verifier.go", `if t.issuer.Standing != nil {`, `if false {`},
	}, "./identity", "TestRevokedTokens"},
	{"T11", "a service's token is enough, without its certificate", []Edit{
		{"vault/network.go", `!strings.EqualFold(name, c.Certificate)`, `name == ""`},
	}, "./vault", "TestClients"},

	{"T12", "the token names the algorithm, and the key serves any", []Edit{
		{"identity/publickey.go", `if p.Algorithm != "" && p.Algorithm != alg {`, `if false {`},
	}, "./identity", "TestWycheproof"},

	{"T13", "a role says nothing of what it excepts", []Edit{
		{"rbac/allowed.go", `return slices.ContainsFunc(in, matches) && !slices.ContainsFunc(out, matches)`, `return slices.ContainsFunc(in, matches) && len(out) >= 0`},
	}, "./rbac", "TestAllowedIsTheModel"},
	{"T13", "a role below is a role above", []Edit{
		{"rbac/allowed.go", `if !a.Scope.Contains(scope) {`, `if !a.Scope.Contains(scope) && !scope.Contains(a.Scope) {`},
	}, "./rbac", "TestAllowedIsTheModel"},
	{"T13", "a caller of another tenant has the rights of who has his id", []Edit{
		{"rbac/allowed.go", `return a.Tenant != caller.Tenant || a.Expired(now)`, `return a.Expired(now)`},
	}, "./rbac", "TestCheckIgnoresOtherTenants"},
	{"T13", "a role that has ended goes on", []Edit{
		{"rbac/allowed.go", `return a.Tenant != caller.Tenant || a.Expired(now)`, `return a.Tenant != caller.Tenant || now.IsZero()`},
	}, "./workspace", "TestEmergencyAccess"},
	{"T13", "one principal may hold both duties", []Edit{
		{"vault/duties.go", `if vault.SeparateDuties && reaches(as, vault) &&`, `if false && reaches(as, vault) &&`},
	}, "./vault", "TestSeparationOfDuties"},

	{"T14", "a key that can be purged may protect a workspace", []Edit{
		{"encryption/guard.go", `if !key.SoftDelete() || !key.PurgeProtected() {`, `if !key.SoftDelete() {`},
	}, "./encryption", "TestAssignBlockers"},
	{"T14", "purge protection does not protect", []Edit{
		{"vault/life.go", `if b.Vault.PurgeProtection {`, `if false {`},
	}, "./vault", "TestPurgeProtectionAndSweep"},

	{"T15", "bad padding of RSA1_5 is told", []Edit{
		{"vault/softkey/rsa15.go", `return substitute, nil`, `return nil, err`},
	}, "./vault/softkey", "TestPaddingIsNoOracle"},
	{"T15", "RSA1_5 is on", []Edit{
		{"vault/algorithm.go", `case m.Mode == ModePKCS1Encryption && k.Tags[TagRSA15] != "allowed":`, `case false:`},
	}, "./vault", "TestSwitches"},

	{"T16", "strangers are told where a vault lies", []Edit{
		{"vault/act.go", `if c.Tenant != tenant {`, `if false {`},
	}, "./vault", "TestDenied"},
	{"T16", "who lacks a right is told which keys there are", []Edit{
		{"vault/use.go", `if b.Vault, err = u.enter(tx, u.act, u.question.vault, u.question.key, u.action); err != nil {
		return b, err
	}`, `if b.Vault, err = u.enter(tx, u.act, u.question.vault, u.question.key, u.action); err != nil {
		if vault, e := liveVault(tx, u.question.vault); e == nil {
			if _, e = find(tx, u.act, vault, u.question.key, u.question.version); e != nil {
				return b, e
			}
		}
		return b, err
	}`},
	}, "./vault", "TestDenied"},

	{"T17", "a vault may ask without end", []Edit{
		{"vault/limit.go", `limited := ofVault.left < cost`, `limited := false`},
	}, "./vault", "TestLimits"},
	{"T17", "who asks most is served first", []Edit{
		{"vault/limit.go", `f.next < next.next`, `f.next > next.next`},
	}, "./vault", "TestFloodIsKeptApart"},

	{"T18", "a download goes on after the lease", []Edit{
		{"lake/read.go", `if err := g.use.Check(); err != nil {`, `if err := g.use.Check(); err != nil && false {`},
	}, "./lake", "TestNoByteAfterTheRefusal"},
	{"T18", "a no does not end the lease", []Edit{
		{"encryption/revoke.go", `share = e.end(why)`, `share = nil`},
		{"encryption/revoke.go", `s.end(why) // whatever`, `// whatever`},
	}, "./encryption", "TestRevocationBound"},

	{"T19", "dropped keys stay in memory", []Edit{
		{"envelope/key.go", `func (k *Key) Clear() { clear(k[:]) }`, `func (k *Key) Clear() {}`},
	}, "./encryption", "TestKeysLeaveMemory"},
	{"T19", "what a key is derived in stays in memory", []Edit{
		{"envelope/hkdf.go", `func wipe(b []byte) { clear(b[:cap(b)]) }`, `func wipe(b []byte) {}`},
	}, "./encryption", "TestKeysLeaveMemory"},

	{"T20", "the process may be dumped", []Edit{
		{"internal/harden/harden_linux.go", `unix.Prctl(unix.PR_SET_DUMPABLE, 0, 0, 0, 0)`, `unix.Prctl(unix.PR_SET_DUMPABLE, 1, 0, 0, 0)`},
	}, "./internal/harden", "TestHardened"},
	{"T20", "the server dumps core", []Edit{
		{"cmd/kluis/main.go", `if err := harden.Dumps(); err != nil {`, `if err := error(nil); err != nil {`},
		{"cmd/kluis/main.go", "\t\"github.com/kluis-io/kluis/internal/harden\"\n", ""},
	}, "./test/system", "TestNoCoreDumps"},

	{"T21", "an item's old keys outlive its re-encryption", []Edit{
		{"encryption/item.go", `if key.Generation >= g.Number {`, `if key.State = Retiring; key.Generation <= g.Number {`},
	}, "./encryption", "TestOldBackupAndStolenDatabase"},

	{"T22", "a key prints its bytes", []Edit{
		{"envelope/key.go", `func (Key) Format(f fmt.State, _ rune) { io.WriteString(f, redacted) }`, `func (k Key) Format(f fmt.State, _ rune) { f.Write(k[:]); io.WriteString(f, "") }`},
	}, "./envelope", "TestKeyIsNeverShown"},
	{"T22", "the path of each request is logged", []Edit{
		{"cmd/kluis/router.go", `	h, path := rt.route(r)
	if h == nil {`, `	h, path := rt.route(r)
	slog.Debug("request", "path", path)
	if h == nil {`},
		{"cmd/kluis/router.go", "\t\"context\"\n", "\t\"context\"\n\t\"log/slog\"\n"},
	}, "./test/system", "TestCanaries"},

	{"T23", "what is written after an assign goes under a key of before it", []Edit{
		{"encryption/entry.go", `return row.Generation < g.Number && !g.ReSealOnly }`, `return false && row.Generation < g.Number }`},
	}, "./encryption", "TestWritesDuringReencryption"},
	{"T23", "a key is reset without its vault's yes", []Edit{
		{"encryption/change.go", `m, err := k.unlock(ctx, v)
	if err != nil {`, `m, err := k.unlock(ctx, v)
	if e := k.slot(v.scope.ID).entry.Load(); err != nil && e != nil {
		m, err = &material{scope: v.scope, sealing: old, scopeKeys: e.scopeKeys, lease: *e.lease.Load()}, nil
	}
	if err != nil {`},
	}, "./encryption", "TestChangeNeedsAFreshYes"},

	{"T24", "a write is published after the lease", []Edit{
		{"encryption/use.go", `	if err := u.Check(); err != nil {
		return err
	}
	s, err := tx.Scope(u.scope)`, `	s, err := tx.Scope(u.scope)`},
		{"encryption/use.go", `if s.Serving == Revoked {`, `if false {`},
	}, "./encryption", "TestPublishedAfterTheLease"},
	{"T24", "a yes given before a no undoes it", []Edit{
		{"encryption/open.go", `if now.Epoch != v.scope.Epoch || now.Serial != v.scope.Serial || now.Serving != v.scope.Serving {`, `if now.Epoch != v.scope.Epoch {`},
	}, "./encryption", "TestNoOvertakesYes"},
	{"T24", "an unwrap under way when its key is disabled succeeds", []Edit{
		{"vault/use.go", `if err != nil || newest != d.revision {`, `if err != nil || newest < 0 {`},
	}, "./vault", "TestRevokedDuringUse"},

	{"T25", "an entry is not held against its hash", []Edit{
		{"audit/verify.go", `if nodes[0] != nil && *nodes[0] != used {`, `if nodes[0] != nil && *nodes[0] != used { used = *nodes[0] }; if false {`},
	}, "./audit", "TestEveryByteOfAnEntryCounts"},
	{"T25", "an act that cannot be recorded is done", []Edit{
		{"vault/act.go", `		return appendEntry(tx, a.done())
	})`, `		appendEntry(tx, a.done())
		return nil
	})`},
	}, "./vault", "TestAuditFails"},

	{"T26", "dots are a segment like any other", []Edit{
		{"lake/path.go", `case s == "." || s == "..":`, `case false:`},
	}, "./lake", "TestParsePath"},
	{"T26", "a path is decoded twice", []Edit{
		{"lake/path.go", `segments, err := splitPath(decoded)
	if err != nil {
		return Path{}, err
	}`, `if again, err := url.PathUnescape(decoded); err == nil {
		decoded = again
	}
	segments, err := splitPath(decoded)
	if err != nil {
		return Path{}, err
	}`},
	}, "./lake", "TestParsePath"},
}
