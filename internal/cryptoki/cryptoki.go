// Package cryptoki is the way to a PKCS#11 token: the protocol between kluis and
// its helper process kluis-hsm, and kluis's end of it.
//
// The vendor's library needs cgo and may crash; it runs in kluis-hsm alone. Key
// material never crosses: a request names a key on the token, and the token uses
// it. What does cross is what a caller wraps or unwraps, on a Unix socket between
// two processes of one user, each of which checks the other's (SO_PEERCRED).
//
// # The protocol
//
// Each direction is a sequence of frames: a length of 4 bytes, big-endian, 1 to
// [MaxFrame], and as many bytes of JSON, one object, with no unknown fields and
// nothing after it. kluis sends [Request] objects, the helper answers each with
// one [Response] that carries the same id, in any order. Who meets a malformed
// frame ends the connection. A request names the token's serial number, so that
// a helper restarted over another token refuses it instead of finding nothing.
// A helper works on what it has begun even if the connection ends.
//
// Both ends come from one release; [Version] is compared in the answer to
// [OpInfo], which is the first request of each connection.
//
// The package does not know what the keys are for, and decides nothing.
package cryptoki

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// Version is the protocol's.
const Version = 1

// Sizes, in bytes.
const (
	MaxFrame  = 128 << 10
	maxValue  = 33 << 10 // what is encrypted, decrypted or signed: 32 KiB and a block or tag
	MaxRandom = 128      // what [OpRandom] gives at once (Managed HSM's own limit)
	maxLabel  = 128
	maxSerial = 32
)

// maxTimeout bounds what a request may ask for, in milliseconds.
const maxTimeout = 10 * 60 * 1000

// An Op is what a [Request] asks for.
type Op string

// The operations.
const (
	OpInfo     Op = "info"
	OpGenerate Op = "generate" // a key under Request.Key, which must be free
	OpEncrypt  Op = "encrypt"  // with an AES key; RSA needs no token for it
	OpDecrypt  Op = "decrypt"
	OpSign     Op = "sign"    // Value is the digest
	OpVerify   Op = "verify"  // Value is the digest, Signature what to check
	OpCopy     Op = "copy"    // the key under Request.Key to Request.To, which must be free
	OpDestroy  Op = "destroy" // every object under Request.Key
	OpRandom   Op = "random"  // Count bytes
)

var ops = []Op{OpInfo, OpGenerate, OpEncrypt, OpDecrypt, OpSign, OpVerify, OpCopy, OpDestroy, OpRandom}

// A Kind is what a key on a token is.
type Kind string

// The kinds of keys.
const (
	RSA Kind = "RSA" // 2048, 3072 or 4096 bits, exponent 65537
	EC  Kind = "EC"
	AES Kind = "AES" // 128, 192 or 256 bits
)

// The curves, by their names in JSON Web Keys.
const (
	P256  = "P-256"
	P256K = "P-256K" // secp256k1
	P384  = "P-384"
	P521  = "P-521"
)

// A Spec says which key to make. Bits is 0 for an EC key, and Curve is empty for
// any other.
type Spec struct {
	Kind  Kind   `json:"kind"`
	Bits  int    `json:"bits,omitempty"`
	Curve string `json:"curve,omitempty"`
}

// Check reports what is wrong with s.
func (s Spec) Check() error {
	ok := false
	switch s.Kind {
	case RSA:
		ok = s.Curve == "" && slices.Contains([]int{2048, 3072, 4096}, s.Bits)
	case AES:
		ok = s.Curve == "" && slices.Contains([]int{128, 192, 256}, s.Bits)
	case EC:
		ok = s.Bits == 0 && slices.Contains([]string{P256, P256K, P384, P521}, s.Curve)
	}
	if !ok {
		return errors.New("no such kind or size of key")
	}
	return nil
}

// String returns the name under which [Info] lists s: "RSA-3072", "P-256", "AES-256".
func (s Spec) String() string {
	if s.Kind == EC {
		return s.Curve
	}
	return fmt.Sprintf("%s-%d", s.Kind, s.Bits)
}

// Specs returns every key that the protocol knows.
func Specs() []Spec {
	return []Spec{
		{Kind: RSA, Bits: 2048}, {Kind: RSA, Bits: 3072}, {Kind: RSA, Bits: 4096},
		{Kind: EC, Curve: P256}, {Kind: EC, Curve: P256K}, {Kind: EC, Curve: P384}, {Kind: EC, Curve: P521},
		{Kind: AES, Bits: 128}, {Kind: AES, Bits: 192}, {Kind: AES, Bits: 256},
	}
}

// An Algorithm is named as in RFC 7518 and in Key Vault.
type Algorithm string

// The algorithms. Signatures of elliptic curves are r‖s, each as long as the
// curve's order (RFC 7518 §3.4).
const (
	RSAOAEP    Algorithm = "RSA-OAEP" // SHA-1
	RSAOAEP256 Algorithm = "RSA-OAEP-256"
	A128KW     Algorithm = "A128KW" // RFC 3394
	A192KW     Algorithm = "A192KW"
	A256KW     Algorithm = "A256KW"
	A128CBC    Algorithm = "A128CBC" // whole blocks; Request.IV of 16 bytes
	A192CBC    Algorithm = "A192CBC"
	A256CBC    Algorithm = "A256CBC"
	A128CBCPAD Algorithm = "A128CBCPAD" // with PKCS #7 padding
	A192CBCPAD Algorithm = "A192CBCPAD"
	A256CBCPAD Algorithm = "A256CBCPAD"
	A128GCM    Algorithm = "A128GCM" // see [GCMNonce]
	A192GCM    Algorithm = "A192GCM"
	A256GCM    Algorithm = "A256GCM"
	RS256      Algorithm = "RS256"
	RS384      Algorithm = "RS384"
	RS512      Algorithm = "RS512"
	PS256      Algorithm = "PS256" // the salt is as long as the digest
	PS384      Algorithm = "PS384"
	PS512      Algorithm = "PS512"
	ES256      Algorithm = "ES256"
	ES256K     Algorithm = "ES256K"
	ES384      Algorithm = "ES384"
	ES512      Algorithm = "ES512"
)

// Sizes of AES-GCM, in bytes. What is encrypted is answered as nonce, ciphertext
// and tag: the helper chooses the nonce, or the token if it insists. To decrypt,
// the nonce is Request.IV, and the ciphertext and the tag are the value.
const (
	GCMNonce = 12
	GCMTag   = 16
)

// A KeyID is a key's CKA_ID on the token: 16 random bytes, in lower-case
// hexadecimal.
type KeyID string

// NewKeyID returns a fresh one.
func NewKeyID() KeyID {
	var b [16]byte
	rand.Read(b[:])
	return KeyID(hex.EncodeToString(b[:]))
}

// Bytes returns the CKA_ID itself.
func (k KeyID) Bytes() []byte {
	b, _ := hex.DecodeString(string(k))
	return b
}

var keyIDPattern = regexp.MustCompile(`^[0-9a-f]{32}$`)

// A Handle says where a key is: on which token, under which id. It is no secret.
type Handle struct {
	Token string `json:"token"` // the token's serial number
	Key   KeyID  `json:"key"`
}

// Info is what a helper tells of its token; of itself alone, with no serial
// number, while it has none. Kinds and Algorithms are what the token's mechanisms
// allow, as they were when it was opened.
type Info struct {
	Version      int         `json:"version"`
	Serial       string      `json:"serial"`
	Label        string      `json:"label"`
	Manufacturer string      `json:"manufacturer"`
	Model        string      `json:"model"`
	Firmware     string      `json:"firmware"`
	Sessions     int         `json:"sessions"` // how many operations run at once
	Kinds        []string    `json:"kinds"`    // as [Spec.String] writes them
	Algorithms   []Algorithm `json:"algorithms"`
}

// A Request is one frame to the helper.
type Request struct {
	ID        uint64    `json:"id"`
	Op        Op        `json:"op"`
	Timeout   int64     `json:"timeout"`         // milliseconds, after which nobody waits for the answer
	Token     string    `json:"token,omitempty"` // serial number; required but for OpInfo
	Key       KeyID     `json:"key,omitempty"`
	To        KeyID     `json:"to,omitempty"`
	Label     string    `json:"label,omitempty"` // CKA_LABEL of the new key
	Spec      *Spec     `json:"spec,omitempty"`
	Algorithm Algorithm `json:"alg,omitempty"`
	Value     []byte    `json:"value,omitempty"`
	IV        []byte    `json:"iv,omitempty"`
	AAD       []byte    `json:"aad,omitempty"`
	Signature []byte    `json:"signature,omitempty"`
	Count     int       `json:"count,omitempty"`
}

// Check reports what is malformed in r.
func (r *Request) Check() error {
	switch {
	case r.ID == 0:
		return errors.New("a request needs an id")
	case !slices.Contains(ops, r.Op):
		return errors.New("unknown operation")
	case r.Timeout < 1 || r.Timeout > maxTimeout:
		return errors.New("timeout out of range")
	case len(r.Value) > maxValue || len(r.Signature) > maxValue || len(r.AAD) > maxValue || len(r.IV) > 16:
		return errors.New("value too long")
	case len(r.Label) > maxLabel || len(r.Token) > maxSerial:
		return errors.New("label or serial number too long")
	case len(r.Algorithm) > 32:
		return errors.New("algorithm too long")
	}
	if r.Op == OpInfo {
		return nil
	}
	if r.Token == "" {
		return errors.New("a request needs the token's serial number")
	}
	if r.Op == OpRandom {
		if r.Count < 1 || r.Count > MaxRandom {
			return errors.New("count out of range")
		}
		return nil
	}
	if !keyIDPattern.MatchString(string(r.Key)) {
		return errors.New("malformed key id")
	}
	switch r.Op {
	case OpGenerate:
		if r.Spec == nil {
			return errors.New("no kind of key")
		}
		return r.Spec.Check()
	case OpCopy:
		if !keyIDPattern.MatchString(string(r.To)) {
			return errors.New("malformed key id")
		}
	case OpEncrypt, OpDecrypt, OpSign, OpVerify:
		if r.Algorithm == "" {
			return errors.New("no algorithm")
		}
	}
	return nil
}

// Clear overwrites what may be secret.
func (r *Request) Clear() { clear(r.Value) }

// A Code says how a request ended.
type Code string

// The codes.
const (
	OK          Code = "ok"
	Malformed   Code = "malformed"   // the request itself
	Invalid     Code = "invalid"     // the value was not made with this key and algorithm, or does not fit it
	Missing     Code = "missing"     // the token is there and does not hold the key
	Exists      Code = "exists"      // the key's id is taken
	Refused     Code = "refused"     // the token forbids it for this key
	Unsupported Code = "unsupported" // the token cannot do it with any key of this kind
	OtherToken  Code = "other-token" // the helper serves another token than the request names
	Busy        Code = "busy"        // too many requests at once
	Unavailable Code = "unavailable" // the token does not answer, or is not logged in to; try again
	Failed      Code = "failed"      // anything else: a defect
)

var codes = []Code{OK, Malformed, Invalid, Missing, Exists, Refused, Unsupported, OtherToken, Busy, Unavailable, Failed}

// A Response is one frame from the helper.
type Response struct {
	ID     uint64 `json:"id"`
	Code   Code   `json:"code"`
	Detail string `json:"detail,omitempty"` // the PKCS#11 function and error, for the log; never a secret
	Public []byte `json:"public,omitempty"` // of OpGenerate: PKIX, DER; empty for AES
	Value  []byte `json:"value,omitempty"`
	Info   *Info  `json:"info,omitempty"`
}

// Check reports what is malformed in r.
func (r *Response) Check() error {
	switch {
	case r.ID == 0:
		return errors.New("a response needs an id")
	case !slices.Contains(codes, r.Code):
		return errors.New("unknown code")
	case len(r.Value) > maxValue || len(r.Public) > maxValue:
		return errors.New("value too long")
	case r.Code != OK && (r.Value != nil || r.Public != nil || r.Info != nil):
		return errors.New("a failure with a result")
	case strings.ContainsFunc(r.Detail, func(c rune) bool { return c < ' ' || c > '~' }):
		return errors.New("detail is not text")
	}
	return nil
}
