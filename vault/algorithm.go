package vault

import (
	"crypto"
	"fmt"
	"slices"

	"github.com/kluis-io/kluis/fault"
)

// An Operation is a use of a key, as key_ops names it.
type Operation string

// The operations. Import is a key's that does nothing but let others in, wrapped
// for it: it stands alone in key_ops.
const (
	Encrypt   Operation = "encrypt"
	Decrypt   Operation = "decrypt"
	Sign      Operation = "sign"
	Verify    Operation = "verify"
	WrapKey   Operation = "wrapKey"
	UnwrapKey Operation = "unwrapKey"
	Import    Operation = "import"
)

// operations are what keys of a family may do; the first n are a new key's unless
// it names its own, as Azure's.
var operations = map[KeyType]struct {
	all      []Operation
	defaults int
}{
	RSA: {[]Operation{Encrypt, Decrypt, Sign, Verify, WrapKey, UnwrapKey, Import}, 6},
	EC:  {[]Operation{Sign, Verify}, 2},
	Oct: {[]Operation{Encrypt, Decrypt, WrapKey, UnwrapKey, Sign, Verify}, 4},
}

// checkOperations sorts a key's operations and checks that it can have them.
func checkOperations(t KeyType, ops []Operation) ([]Operation, error) {
	ops = slices.Clone(ops)
	slices.Sort(ops)
	ops = slices.Compact(ops)
	for _, op := range ops {
		if op == "export" {
			return nil, fault.New(fault.NotSupported, "Exportable keys are not supported.")
		}
		if !slices.Contains(operations[t.Family()].all, op) {
			return nil, fault.New(fault.InvalidArgument, "key_ops holds an operation that a key of this type does not have.")
		}
	}
	if slices.Contains(ops, Import) && (len(ops) > 1 || t != RSAHSM) {
		return nil, fault.New(fault.InvalidArgument, "import stands alone in key_ops, of an RSA-HSM key.")
	}
	return ops, nil
}

// An Algorithm names how a key is used (RFC 7518, RFC 8812, and Key Vault's own
// names).
type Algorithm string

// The algorithms.
const (
	RSAOAEP256 Algorithm = "RSA-OAEP-256" // SHA-256, MGF1 with SHA-256
	RSAOAEP    Algorithm = "RSA-OAEP"     // SHA-1, for old clients
	RSA15      Algorithm = "RSA1_5"       // off unless the key is tagged [TagRSA15]

	RS256  Algorithm = "RS256"
	RS384  Algorithm = "RS384"
	RS512  Algorithm = "RS512"
	PS256  Algorithm = "PS256"
	PS384  Algorithm = "PS384"
	PS512  Algorithm = "PS512"
	ES256  Algorithm = "ES256"
	ES256K Algorithm = "ES256K"
	ES384  Algorithm = "ES384"
	ES512  Algorithm = "ES512"
	HS256  Algorithm = "HS256"
	HS384  Algorithm = "HS384"
	HS512  Algorithm = "HS512"

	A128KW        Algorithm = "A128KW" // RFC 3394
	A192KW        Algorithm = "A192KW"
	A256KW        Algorithm = "A256KW"
	AESKeyWrap    Algorithm = "CKM_AES_KEY_WRAP"     // the same, of any size
	AESKeyWrapPad Algorithm = "CKM_AES_KEY_WRAP_PAD" // RFC 5649

	A128GCM    Algorithm = "A128GCM"
	A192GCM    Algorithm = "A192GCM"
	A256GCM    Algorithm = "A256GCM"
	A128CBC    Algorithm = "A128CBC"
	A192CBC    Algorithm = "A192CBC"
	A256CBC    Algorithm = "A256CBC"
	A128CBCPAD Algorithm = "A128CBCPAD" // PKCS #7 padding
	A192CBCPAD Algorithm = "A192CBCPAD"
	A256CBCPAD Algorithm = "A256CBCPAD"
)

// TagRSA15, with the value "allowed", switches RSA1_5 on for one key version. It is
// off otherwise: who may ask for decryption often enough reads any ciphertext
// through its padding check. Here that check never shows (implicit rejection,
// draft-irtf-cfrg-rsa-guidance), but a client that acts on what it got may still
// show it.
const TagRSA15 = "kluis-rsa1_5"

// A Mode is how an algorithm works.
type Mode int

// The modes.
const (
	ModeOAEP Mode = iota
	ModePKCS1Encryption
	ModePKCS1Signature
	ModePSS
	ModeECDSA
	ModeHMAC
	ModeKeyWrap
	ModeKeyWrapPad
	ModeGCM
	ModeCBC
	ModeCBCPad
)

// A Method is what an algorithm asks of a key and of what it is given.
type Method struct {
	Mode   Mode
	Hash   crypto.Hash // of OAEP, signatures and MACs
	family KeyType
	bits   int   // of the key; 0 for any
	curve  Curve // of EC keys
}

var methods = map[Algorithm]Method{
	RSAOAEP256: {Mode: ModeOAEP, Hash: crypto.SHA256, family: RSA},
	RSAOAEP:    {Mode: ModeOAEP, Hash: crypto.SHA1, family: RSA},
	RSA15:      {Mode: ModePKCS1Encryption, family: RSA},

	RS256: {Mode: ModePKCS1Signature, Hash: crypto.SHA256, family: RSA},
	RS384: {Mode: ModePKCS1Signature, Hash: crypto.SHA384, family: RSA},
	RS512: {Mode: ModePKCS1Signature, Hash: crypto.SHA512, family: RSA},
	PS256: {Mode: ModePSS, Hash: crypto.SHA256, family: RSA},
	PS384: {Mode: ModePSS, Hash: crypto.SHA384, family: RSA},
	PS512: {Mode: ModePSS, Hash: crypto.SHA512, family: RSA},

	ES256:  {Mode: ModeECDSA, Hash: crypto.SHA256, family: EC, curve: P256},
	ES256K: {Mode: ModeECDSA, Hash: crypto.SHA256, family: EC, curve: P256K},
	ES384:  {Mode: ModeECDSA, Hash: crypto.SHA384, family: EC, curve: P384},
	ES512:  {Mode: ModeECDSA, Hash: crypto.SHA512, family: EC, curve: P521},

	HS256: {Mode: ModeHMAC, Hash: crypto.SHA256, family: Oct},
	HS384: {Mode: ModeHMAC, Hash: crypto.SHA384, family: Oct},
	HS512: {Mode: ModeHMAC, Hash: crypto.SHA512, family: Oct},

	A128KW:        {Mode: ModeKeyWrap, family: Oct, bits: 128},
	A192KW:        {Mode: ModeKeyWrap, family: Oct, bits: 192},
	A256KW:        {Mode: ModeKeyWrap, family: Oct, bits: 256},
	AESKeyWrap:    {Mode: ModeKeyWrap, family: Oct},
	AESKeyWrapPad: {Mode: ModeKeyWrapPad, family: Oct},

	A128GCM:    {Mode: ModeGCM, family: Oct, bits: 128},
	A192GCM:    {Mode: ModeGCM, family: Oct, bits: 192},
	A256GCM:    {Mode: ModeGCM, family: Oct, bits: 256},
	A128CBC:    {Mode: ModeCBC, family: Oct, bits: 128},
	A192CBC:    {Mode: ModeCBC, family: Oct, bits: 192},
	A256CBC:    {Mode: ModeCBC, family: Oct, bits: 256},
	A128CBCPAD: {Mode: ModeCBCPad, family: Oct, bits: 128},
	A192CBCPAD: {Mode: ModeCBCPad, family: Oct, bits: 192},
	A256CBCPAD: {Mode: ModeCBCPad, family: Oct, bits: 256},
}

// Method returns how the algorithm works; false if it is not known.
func (a Algorithm) Method() (Method, bool) {
	m, ok := methods[a]
	return m, ok
}

// does reports whether the method is one of an operation's.
func (m Method) does(op Operation) bool {
	switch op {
	case Sign, Verify:
		return m.Mode == ModePKCS1Signature || m.Mode == ModePSS || m.Mode == ModeECDSA || m.Mode == ModeHMAC
	case Encrypt, Decrypt:
		return m.family == RSA && (m.Mode == ModeOAEP || m.Mode == ModePKCS1Encryption) ||
			m.Mode == ModeGCM || m.Mode == ModeCBC || m.Mode == ModeCBCPad
	case WrapKey, UnwrapKey:
		return m.Mode == ModeOAEP || m.Mode == ModePKCS1Encryption || m.Mode == ModeKeyWrap || m.Mode == ModeKeyWrapPad
	}
	return false
}

// An Input is what a key is given to work on.
type Input struct {
	Algorithm Algorithm
	Value     []byte // plaintext, ciphertext, digest, or for HS* the message
	IV        []byte // of *CBC and *CBCPAD, 16 bytes; of *GCM to decrypt, 12 bytes
	AAD       []byte // of *GCM
	Tag       []byte // of *GCM to decrypt, 16 bytes
	Signature []byte // to verify; of ES* r ‖ s (RFC 7518 §3.4)
}

// An Output is what it makes of that.
type Output struct {
	Value []byte
	IV    []byte // of *GCM encryption, chosen by the vault; of *CBC, as given
	Tag   []byte // of *GCM encryption
	AAD   []byte // of *GCM encryption, as given
	Valid bool   // of a verification
}

// Bounds of what a key is given, in bytes.
const (
	maxRSAValue = 512 // the largest modulus
	maxValue    = 32 << 10
)

// check refuses what the key cannot be given, before any work is done for it.
func (in Input) check(k KeyVersion, op Operation) error {
	bad := func(detail string) error { return fault.New(fault.InvalidArgument, detail) }
	m, ok := in.Algorithm.Method()
	switch {
	case in.Algorithm == "RSNULL":
		return fault.New(fault.NotSupported, "Algorithm RSNULL is not supported.")
	case !ok || !m.does(op) || m.family != k.Type.Family() || m.bits != 0 && m.bits != k.Bits || m.curve != k.Curve:
		return bad("The algorithm does not fit the operation and the key's type and size.").(*fault.Error).WithMend(suggest(k, op))
	case m.Mode == ModePKCS1Encryption && k.Tags[TagRSA15] != "allowed":
		return fault.New(fault.NotSupported, "Algorithm RSA1_5 is switched off: its decryption leaks the plaintext to who can ask often enough.").
			WithMend("Use RSA-OAEP-256, or tag the key " + TagRSA15 + "=allowed.")
	}
	limit := maxValue
	if m.family == RSA {
		limit = maxRSAValue
	}
	empty := m.Mode == ModeGCM || m.Mode == ModeCBCPad && op == Encrypt || m.Mode == ModeHMAC // may be given nothing
	if len(in.Value) == 0 && !empty || len(in.Value) > limit || len(in.AAD) > limit {
		return bad("The value is empty or too long for the key.")
	}
	if op == Verify && len(in.Signature) == 0 {
		return bad("There is no signature to verify.")
	}
	switch m.Mode {
	case ModePKCS1Signature, ModePSS, ModeECDSA:
		if len(in.Value) != m.Hash.Size() {
			return bad(fmt.Sprintf("%s takes a digest of %d bytes.", in.Algorithm, m.Hash.Size()))
		}
	case ModeCBC, ModeCBCPad:
		if len(in.IV) != 16 {
			return bad(fmt.Sprintf("%s needs an iv of 16 bytes.", in.Algorithm))
		}
		if (m.Mode == ModeCBC || op == Decrypt) && len(in.Value)%16 != 0 {
			return bad("The value is not a whole number of 16-byte blocks.")
		}
	case ModeGCM:
		switch {
		case op == Encrypt && len(in.IV)+len(in.Tag) > 0:
			return bad("The vault chooses the iv of " + string(in.Algorithm) + ": one used twice gives the key away.").(*fault.Error).
				WithMend("Leave iv and tag out.")
		case op == Decrypt && (len(in.IV) != 12 || len(in.Tag) != 16):
			return bad(fmt.Sprintf("%s needs the iv of 12 bytes and the tag of 16.", in.Algorithm))
		}
	}
	if m.Mode != ModeGCM && len(in.AAD)+len(in.Tag) > 0 || len(in.IV) > 0 && m.Mode != ModeGCM && m.Mode != ModeCBC && m.Mode != ModeCBCPad {
		return bad(fmt.Sprintf("%s takes no iv, aad or tag of these.", in.Algorithm))
	}
	return nil
}

// suggest names an algorithm that does fit.
func suggest(k KeyVersion, op Operation) string {
	for _, a := range []Algorithm{RSAOAEP256, RS256, ES256, ES256K, ES384, ES512, A256KW, A192KW, A128KW, A256GCM, A192GCM, A128GCM, HS256} {
		m := methods[a]
		if m.does(op) && m.family == k.Type.Family() && (m.bits == 0 || m.bits == k.Bits) && m.curve == k.Curve {
			return "Use " + string(a) + "."
		}
	}
	return ""
}
