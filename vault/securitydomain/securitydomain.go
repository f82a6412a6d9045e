// Package securitydomain reads and writes the two files by which a managed HSM's
// security domain leaves it and comes back: Azure's formats, so that its clients do
// the officers' part ('az keyvault security-domain').
//
// A security domain is one secret. Taken out, it is sealed under a random master key,
// of which each of N officers gets a share, encrypted to his RSA key; M shares give
// the master key back. To go back in, it is sealed under another master key, which is
// encrypted to the HSM's transfer key. Both are done outside the HSM, by whoever holds
// M private keys.
//
// The package promises that fewer than M officers learn nothing, and that a file that
// was altered does not open. It does not know what the secret is for.
//
//	{"EncData":{"data":[{"compact_jwe":"…","tag":"…"}],"kdf":"sp108_kdf"},
//	 "SharedKeys":{"enc_shares":[{"enc_key":"…","x5t_256":"…"}],"key_algorithm":"shamir_share","required":2}}
//	{"EncData":{…},"WrappedKey":{"enc_key":"…","x5t_256":"…"}}
//
// A datum is a JWE in compact form (RFC 7516), "dir" with A256CBC-HS512 under a key
// that the master key and the datum's tag give (NIST SP 800-108r1, counter mode,
// HMAC-SHA-512, no context); shares and the wrapped master key are JWEs with
// RSA-OAEP-256 and A256CBC-HS512. A share is over GF(257), byte by byte.
package securitydomain

import (
	"bytes"
	"crypto/hmac"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"

	"github.com/go-jose/go-jose/v4"

	"github.com/kluis-io/kluis/fault"
)

// How many officers there are, and how many it takes
// (learn.microsoft.com/azure/key-vault/managed-hsm/security-domain).
const (
	MinOfficers = 3
	MaxOfficers = 10
	MinQuorum   = 2
)

// MaxFile bounds either file, in bytes.
const MaxFile = 256 << 10

// MinKeyBits is the least size of an officer's RSA key.
const MinKeyBits = 2048

const (
	masterSize = 32
	kdf        = "sp108_kdf"
	sharing    = "shamir_share"
	tag        = "kluis/v1/security-domain"
	maxData    = 16 // data that a file may hold; ours holds one
)

type (
	file struct {
		Data   encData `json:"EncData"`
		Shared *shared `json:"SharedKeys,omitempty"`
		Key    *sealed `json:"WrappedKey,omitempty"`
	}
	encData struct {
		Data []datum `json:"data"`
		KDF  string  `json:"kdf"`
	}
	datum struct {
		JWE string `json:"compact_jwe"`
		Tag string `json:"tag"`
	}
	shared struct {
		Shares    []sealed `json:"enc_shares"`
		Algorithm string   `json:"key_algorithm"`
		Required  int      `json:"required"`
	}
	sealed struct {
		JWE        string `json:"enc_key"`
		Thumbprint string `json:"x5t_256"`
	}
)

// Thumbprint names a certificate as the files do: the SHA-256 of its DER, in base64url
// without padding.
func Thumbprint(c *x509.Certificate) string {
	sum := sha256.Sum256(c.Raw)
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// Check reports what is wrong with the officers' certificates and the quorum. Dates
// and issuers of the certificates do not matter: they only carry the keys.
func Check(officers []*x509.Certificate, quorum int) error {
	switch n := len(officers); {
	case n < MinOfficers || n > MaxOfficers:
		return fault.New(fault.InvalidArgument, fmt.Sprintf("A security domain is shared among %d to %d officers, each with a certificate.", MinOfficers, MaxOfficers))
	case quorum < MinQuorum || quorum > n:
		return fault.New(fault.InvalidArgument, fmt.Sprintf("The quorum is at least %d, and at most the number of officers.", MinQuorum))
	}
	for i, c := range officers {
		key, err := publicKey(c)
		if err != nil {
			return err
		}
		for _, other := range officers[:i] {
			if key.Equal(other.PublicKey) {
				return fault.New(fault.InvalidArgument, "Two officers have the same key: the quorum would be less than it says.")
			}
		}
	}
	return nil
}

func publicKey(c *x509.Certificate) (*rsa.PublicKey, error) {
	key, ok := c.PublicKey.(*rsa.PublicKey)
	if !ok || key.N.BitLen() < MinKeyBits {
		return nil, fault.New(fault.InvalidArgument, fmt.Sprintf("A certificate's key must be RSA, of %d bits or more.", MinKeyBits))
	}
	return key, nil
}

// Make returns the file that takes a secret out. officers and quorum must pass
// [Check].
func Make(secret []byte, officers []*x509.Certificate, quorum int) ([]byte, error) {
	if err := Check(officers, quorum); err != nil {
		return nil, err
	}
	data, master, err := seal(secret)
	defer clear(master)
	if err != nil {
		return nil, err
	}
	f := file{Data: data, Shared: &shared{Algorithm: sharing, Required: quorum}}
	shares := split(master, len(officers), quorum)
	for i, c := range officers {
		defer clear(shares[i])
		s, err := encryptTo(c, shares[i])
		if err != nil {
			return nil, err
		}
		f.Shared.Shares = append(f.Shared.Shares, s)
	}
	return json.Marshal(f)
}

// seal seals a secret under a new master key.
func seal(secret []byte) (encData, []byte, error) {
	master := make([]byte, masterSize)
	rand.Read(master)
	key := derive(master, tag)
	defer clear(key)
	e, err := jose.NewEncrypter(jose.A256CBC_HS512, jose.Recipient{Algorithm: jose.DIRECT, Key: key, KeyID: tag}, nil)
	if err != nil {
		return encData{}, master, err
	}
	text, err := compact(e, secret)
	return encData{Data: []datum{{JWE: text, Tag: tag}}, KDF: kdf}, master, err
}

func encryptTo(c *x509.Certificate, plain []byte) (sealed, error) {
	e, err := jose.NewEncrypter(jose.A256CBC_HS512, jose.Recipient{Algorithm: jose.RSA_OAEP_256, Key: c.PublicKey}, nil)
	if err != nil {
		return sealed{}, err
	}
	text, err := compact(e, plain)
	return sealed{JWE: text, Thumbprint: Thumbprint(c)}, err
}

func compact(e jose.Encrypter, plain []byte) (string, error) {
	o, err := e.Encrypt(plain)
	if err != nil {
		return "", err
	}
	return o.CompactSerialize()
}

// derive returns the 64 bytes that a datum is sealed under: one block of SP 800-108r1
// in counter mode with HMAC-SHA-512.
func derive(master []byte, label string) []byte {
	mac := hmac.New(sha512.New, master)
	b := binary.BigEndian.AppendUint32(nil, 1)
	b = append(append(b, label...), 0)
	mac.Write(binary.BigEndian.AppendUint32(b, 8*sha512.Size))
	return mac.Sum(nil)
}

func parse(text []byte) (f file, err error) {
	if len(text) > MaxFile || json.Unmarshal(text, &f) != nil {
		return f, fault.New(fault.InvalidArgument, "The file is not a security domain.")
	}
	if f.Data.KDF != kdf || len(f.Data.Data) == 0 || len(f.Data.Data) > maxData {
		return f, fault.New(fault.InvalidArgument, "The file is not a security domain of this kind.")
	}
	return f, nil
}

// An Info is what a file says of itself to everybody.
type Info struct {
	Quorum   int
	Officers []string // the thumbprints of their certificates
}

// Describe reads what the file of [Make] says to everybody.
func Describe(text []byte) (Info, error) {
	f, err := parse(text)
	if err != nil {
		return Info{}, err
	}
	s := f.Shared
	if s == nil || s.Algorithm != sharing || s.Required < MinQuorum || len(s.Shares) < s.Required || len(s.Shares) > MaxOfficers {
		return Info{}, fault.New(fault.InvalidArgument, "The file is not a security domain that was taken out of a managed HSM.")
	}
	i := Info{Quorum: s.Required}
	for _, share := range s.Shares {
		i.Officers = append(i.Officers, share.Thumbprint)
	}
	return i, nil
}

// An Officer is one who opens: his certificate names his share.
type Officer struct {
	Certificate *x509.Certificate
	Key         *rsa.PrivateKey
}

// Open returns the secret of a file of [Make], which takes a quorum of its officers.
func Open(text []byte, officers []Officer) ([]byte, error) {
	info, err := Describe(text)
	if err != nil {
		return nil, err
	}
	f, err := parse(text)
	if err != nil {
		return nil, err
	}
	var shares [][]byte
	defer func() {
		for _, s := range shares {
			clear(s)
		}
	}()
	for _, s := range f.Shared.Shares {
		for _, o := range officers {
			if len(shares) == info.Quorum || Thumbprint(o.Certificate) != s.Thumbprint {
				continue
			}
			share, err := decryptWith(o.Key, s.JWE)
			if err != nil {
				return nil, fault.Wrap(fault.InvalidArgument, err, "An officer's share does not open with his private key: it is another key's, or the file was altered.")
			}
			shares = append(shares, share)
			break
		}
	}
	if len(shares) < info.Quorum {
		return nil, fault.New(fault.InvalidArgument, fmt.Sprintf("It takes %d of the %d officers, and %d of those who were given are among them.",
			info.Quorum, len(info.Officers), len(shares)))
	}
	master, err := combine(shares)
	defer clear(master)
	if err != nil {
		return nil, fault.Wrap(fault.InvalidArgument, err, "The shares do not fit together: the file was altered.")
	}
	return f.Data.open(master)
}

// open returns the datum that is ours; all of them must open.
func (e encData) open(master []byte) (secret []byte, err error) {
	for _, d := range e.Data {
		o, err := jose.ParseEncryptedCompact(d.JWE, []jose.KeyAlgorithm{jose.DIRECT}, []jose.ContentEncryption{jose.A256CBC_HS512})
		if err != nil {
			return nil, fault.Wrap(fault.InvalidArgument, err, "The file is not a security domain of this kind.")
		}
		key := derive(master, d.Tag)
		plain, err := o.Decrypt(key)
		clear(key)
		if err != nil {
			return nil, fault.Wrap(fault.InvalidArgument, err, "The security domain does not open: the file was altered.")
		}
		if d.Tag == tag {
			secret = bytes.Clone(plain)
		}
		clear(plain)
	}
	if secret == nil {
		return nil, fault.New(fault.InvalidArgument, "The file holds no security domain of kluis: it was taken out of another product.")
	}
	return secret, nil
}

func decryptWith(key *rsa.PrivateKey, text string) ([]byte, error) {
	o, err := jose.ParseEncryptedCompact(text, []jose.KeyAlgorithm{jose.RSA_OAEP_256}, []jose.ContentEncryption{jose.A256CBC_HS512})
	if err != nil {
		return nil, err
	}
	return o.Decrypt(key)
}

// Wrap returns the file that brings a secret into the managed HSM whose transfer
// key's certificate is given.
func Wrap(secret []byte, transfer *x509.Certificate) ([]byte, error) {
	if _, err := publicKey(transfer); err != nil {
		return nil, err
	}
	data, master, err := seal(secret)
	defer clear(master)
	if err != nil {
		return nil, err
	}
	key, err := encryptTo(transfer, master)
	if err != nil {
		return nil, err
	}
	return json.Marshal(file{Data: data, Key: &key})
}

// Unwrap is the reverse of [Wrap], in the HSM.
func Unwrap(text []byte, transfer *x509.Certificate, key *rsa.PrivateKey) ([]byte, error) {
	f, err := parse(text)
	switch {
	case err != nil:
		return nil, err
	case f.Key == nil:
		return nil, fault.New(fault.InvalidArgument, "The security domain is as it was taken out: it must be encrypted to this managed HSM's transfer key first.").
			WithMend("Use 'kluis vault security-domain restore', or 'az keyvault security-domain restore-blob'.")
	case f.Key.Thumbprint != Thumbprint(transfer):
		return nil, fault.New(fault.InvalidArgument, "The security domain is encrypted to another transfer key than this managed HSM's.").
			WithMend("Fetch the transfer key anew, and encrypt to it.")
	}
	master, err := decryptWith(key, f.Key.JWE)
	defer clear(master)
	if err != nil || len(master) != masterSize {
		return nil, fault.Wrap(fault.InvalidArgument, err, "The security domain does not open with the transfer key.")
	}
	return f.Data.open(master)
}
