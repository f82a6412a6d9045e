//go:build cgo

package main

import (
	"bytes"
	"crypto/rand"

	"github.com/miekg/pkcs11"

	"github.com/kluis-io/kluis/internal/cryptoki"
)

// A mode is how an AES key is used.
type mode int

const (
	modeKW mode = iota // RFC 3394
	modeCBC
	modeCBCPad
	modeGCM
)

var aesOf = map[cryptoki.Algorithm]struct {
	mode mode
	bits int
}{
	cryptoki.A128KW: {modeKW, 128}, cryptoki.A192KW: {modeKW, 192}, cryptoki.A256KW: {modeKW, 256},
	cryptoki.A128CBC: {modeCBC, 128}, cryptoki.A192CBC: {modeCBC, 192}, cryptoki.A256CBC: {modeCBC, 256},
	cryptoki.A128CBCPAD: {modeCBCPad, 128}, cryptoki.A192CBCPAD: {modeCBCPad, 192}, cryptoki.A256CBCPAD: {modeCBCPad, 256},
	cryptoki.A128GCM: {modeGCM, 128}, cryptoki.A192GCM: {modeGCM, 192}, cryptoki.A256GCM: {modeGCM, 256},
}

// mechanismOf is what each mode asks of the token.
var mechanismOf = map[mode]uint{
	modeKW: pkcs11.CKM_AES_ECB, modeCBC: pkcs11.CKM_AES_CBC, modeCBCPad: pkcs11.CKM_AES_CBC, modeGCM: pkcs11.CKM_AES_GCM,
}

// cipher encrypts or decrypts with an AES key.
func (t *token) cipher(o *opened, s pkcs11.SessionHandle, k *object, r *cryptoki.Request) ([]byte, error) {
	a, ok := aesOf[r.Algorithm]
	if !ok || a.bits != k.bits || !o.can(mechanismOf[a.mode], pkcs11.CKF_ENCRYPT|pkcs11.CKF_DECRYPT) {
		return nil, errUnsupported
	}
	switch a.mode {
	case modeKW:
		return t.keyWrap(s, k, r)
	case modeGCM:
		return t.gcm(s, k, r)
	}
	return t.cbc(s, k, r, a.mode == modeCBCPad)
}

// cbc pads here and not on the token: tokens differ in what they say of a bad
// padding, and some say that they are broken.
func (t *token) cbc(s pkcs11.SessionHandle, k *object, r *cryptoki.Request, pad bool) ([]byte, error) {
	encrypt := r.Op == cryptoki.OpEncrypt
	value := bytes.Clone(r.Value)
	defer clear(value)
	if encrypt && pad {
		padded := addPadding(value)
		defer clear(padded)
		value = padded
	}
	if len(r.IV) != block || len(value) == 0 || len(value)%block != 0 {
		return nil, errInvalid
	}
	m := mechanism(pkcs11.CKM_AES_CBC, r.IV)
	if encrypt {
		return t.encrypt(s, m, k, value)
	}
	plain, err := t.decrypt(s, m, k, value)
	if err != nil || !pad {
		return plain, err
	}
	n, ok := padding(plain)
	if !ok {
		clear(plain)
		return nil, errInvalid
	}
	return plain[:len(plain)-n], nil
}

func (t *token) gcm(s pkcs11.SessionHandle, k *object, r *cryptoki.Request) ([]byte, error) {
	iv := r.IV
	if r.Op == cryptoki.OpEncrypt {
		if len(iv) != 0 {
			return nil, errInvalid // chosen by others, it could come twice
		}
		iv = make([]byte, cryptoki.GCMNonce)
		rand.Read(iv)
	} else if len(iv) != cryptoki.GCMNonce || len(r.Value) < cryptoki.GCMTag {
		return nil, errInvalid
	}
	p := pkcs11.NewGCMParams(iv, r.AAD, 8*cryptoki.GCMTag)
	defer p.Free()
	m := mechanism(pkcs11.CKM_AES_GCM, p)
	if r.Op == cryptoki.OpEncrypt {
		sealed, err := t.encrypt(s, m, k, r.Value)
		if err != nil {
			return nil, err
		}
		if own := p.IV(); len(own) == cryptoki.GCMNonce {
			iv = own // a token in FIPS mode chooses for itself
		}
		return append(bytes.Clone(iv), sealed...), nil
	}
	if err := t.m.DecryptInit(s, m, k.private); err != nil {
		return nil, named("C_DecryptInit", err)
	}
	plain, err := t.m.Decrypt(s, r.Value)
	if spoilt(err) && t.missing(s) == errMissing {
		return nil, errInvalid // so SoftHSM calls a wrong tag; its session is well
	}
	return plain, named("C_Decrypt", err)
}

func (t *token) encrypt(s pkcs11.SessionHandle, m []*pkcs11.Mechanism, k *object, value []byte) ([]byte, error) {
	if err := t.m.EncryptInit(s, m, k.private); err != nil {
		return nil, named("C_EncryptInit", err)
	}
	out, err := t.m.Encrypt(s, value)
	return out, named("C_Encrypt", err)
}

func (t *token) decrypt(s pkcs11.SessionHandle, m []*pkcs11.Mechanism, k *object, value []byte) ([]byte, error) {
	if err := t.m.DecryptInit(s, m, k.private); err != nil {
		return nil, named("C_DecryptInit", err)
	}
	out, err := t.m.Decrypt(s, value)
	return out, named("C_Decrypt", err)
}
