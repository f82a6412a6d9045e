package vault

import (
	"fmt"
	"slices"
	"strings"

	"github.com/kluis-io/kluis/fault"
)

// A KeyType is what a key is, in JSON Web Key's words.
type KeyType string

// The key types. Those that end in -HSM have their private part in an HSM.
const (
	RSA    KeyType = "RSA"
	RSAHSM KeyType = "RSA-HSM"
	EC     KeyType = "EC"
	ECHSM  KeyType = "EC-HSM"
	Oct    KeyType = "oct"
	OctHSM KeyType = "oct-HSM"
)

const hsmSuffix = "-HSM"

// Family returns the type without regard to where its keys live: RSA, EC or oct.
func (t KeyType) Family() KeyType { return KeyType(strings.TrimSuffix(string(t), hsmSuffix)) }

// HSM reports whether keys of the type live in an HSM.
func (t KeyType) HSM() bool { return strings.HasSuffix(string(t), hsmSuffix) }

// InHSM returns the type of the same family whose keys live in an HSM.
func (t KeyType) InHSM() KeyType { return t.Family() + hsmSuffix }

func (t KeyType) valid() bool {
	return slices.Contains([]KeyType{RSA, RSAHSM, EC, ECHSM, Oct, OctHSM}, t)
}

// A Curve is an elliptic curve, in JSON Web Key's words; P-256K is secp256k1
// (RFC 8812).
type Curve string

// The curves.
const (
	P256  Curve = "P-256"
	P256K Curve = "P-256K"
	P384  Curve = "P-384"
	P521  Curve = "P-521"
)

var curveBits = map[Curve]int{P256: 256, P256K: 256, P384: 384, P521: 521}

// A Shape is what a key is to be made as.
type Shape struct {
	Type  KeyType
	Bits  int   // of the modulus, the curve or the octets
	Curve Curve // of EC keys only
}

// complete checks the shape and fills in what was left out, as Azure does.
func (s *Shape) complete() error {
	if !s.Type.valid() {
		return fault.New(fault.InvalidArgument, "kty must be RSA, RSA-HSM, EC, EC-HSM, oct or oct-HSM.")
	}
	sizes := map[KeyType][]int{RSA: {2048, 3072, 4096}, Oct: {256, 128, 192}}[s.Type.Family()]
	if s.Type.Family() == EC {
		if s.Curve == "" {
			s.Curve = P256
		}
		bits, ok := curveBits[s.Curve]
		if !ok {
			return fault.New(fault.InvalidArgument, "crv must be P-256, P-256K, P-384 or P-521.")
		}
		sizes = []int{bits}
	} else if s.Curve != "" {
		return fault.New(fault.InvalidArgument, "Only EC keys have a crv.")
	}
	if s.Bits == 0 {
		s.Bits = sizes[0]
	}
	if !slices.Contains(sizes, s.Bits) {
		slices.Sort(sizes)
		return fault.New(fault.InvalidArgument, fmt.Sprintf("key_size of this type must be one of %v.", sizes))
	}
	return nil
}
