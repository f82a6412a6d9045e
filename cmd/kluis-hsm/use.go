//go:build cgo

package main

import (
	"context"
	"crypto"
	"math/big"

	"github.com/miekg/pkcs11"

	"github.com/kluis-io/kluis/internal/cryptoki"
)

// do implements device. What fails because the token was lost, or because a handle
// has gone stale, is tried again, unless it might then be done twice.
func (t *token) do(ctx context.Context, r *cryptoki.Request) cryptoki.Response {
	var value []byte
	var err error
	for range 3 {
		var o *opened
		if o, err = t.ready(ctx); err != nil {
			break
		}
		if r.Op == cryptoki.OpInfo {
			return cryptoki.Response{Code: cryptoki.OK, Info: &o.info}
		}
		if r.Token != o.info.Serial {
			return cryptoki.Response{Code: cryptoki.OtherToken}
		}
		value, err = t.once(ctx, o, r)
		if stale(err) {
			o.forget(r.Key)
		} else if !lostToken(err) {
			break
		}
		if r.Op == cryptoki.OpGenerate || r.Op == cryptoki.OpCopy {
			break
		}
	}
	if r.Op == cryptoki.OpInfo {
		return cryptoki.Response{Code: cryptoki.OK, Detail: detail(err), Info: &cryptoki.Info{Version: cryptoki.Version}}
	}
	if code := codeOf(err); code != cryptoki.OK {
		if code == cryptoki.Failed || code == cryptoki.Unavailable {
			t.log.Warn("operation failed", "op", r.Op, "algorithm", r.Algorithm, "key", r.Key, "error", err)
		}
		return cryptoki.Response{Code: code, Detail: detail(err)}
	}
	if r.Op == cryptoki.OpGenerate {
		return cryptoki.Response{Code: cryptoki.OK, Public: value}
	}
	return cryptoki.Response{Code: cryptoki.OK, Value: value}
}

// detail is an error's text as the protocol takes it: printable ASCII, short.
func detail(err error) string {
	text := []byte(err.Error())
	for i, c := range text {
		if c < ' ' || c > '~' {
			text[i] = '?'
		}
	}
	return string(text[:min(len(text), 256)])
}

// once does r on a session of its own.
func (t *token) once(ctx context.Context, o *opened, r *cryptoki.Request) (value []byte, err error) {
	s, err := o.take(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { t.give(o, s, err) }()
	if ctx.Err() != nil {
		return nil, errBusy // nobody waits for it
	}
	switch r.Op {
	case cryptoki.OpGenerate:
		return t.generate(o, s, r)
	case cryptoki.OpRandom:
		value, err = t.m.GenerateRandom(s, r.Count)
		return value, named("C_GenerateRandom", err)
	case cryptoki.OpDestroy:
		o.forget(r.Key)
		return nil, t.destroy(s, r.Key)
	}
	k, err := t.object(o, s, r.Key)
	if err != nil {
		return nil, err
	}
	switch {
	case r.Op == cryptoki.OpCopy:
		return nil, t.copy(s, k, r)
	case k.kind == cryptoki.AES && (r.Op == cryptoki.OpEncrypt || r.Op == cryptoki.OpDecrypt):
		return t.cipher(o, s, k, r)
	case k.kind == cryptoki.RSA && r.Op == cryptoki.OpDecrypt:
		return t.decryptOAEP(o, s, k, r)
	case r.Op == cryptoki.OpSign || r.Op == cryptoki.OpVerify:
		return t.sign(o, s, k, r)
	}
	return nil, errUnsupported
}

// copy makes a second copy of a key, under another id.
func (t *token) copy(s pkcs11.SessionHandle, k *object, r *cryptoki.Request) error {
	taken, err := t.handles(s, r.To)
	if err != nil {
		return err
	}
	if len(taken) > 0 {
		return errExists
	}
	for _, h := range []pkcs11.ObjectHandle{k.private, k.public} {
		if h == 0 {
			continue
		}
		if _, err := t.m.CopyObject(s, h, []*pkcs11.Attribute{
			pkcs11.NewAttribute(pkcs11.CKA_ID, r.To.Bytes()),
			pkcs11.NewAttribute(pkcs11.CKA_LABEL, r.Label),
		}); err != nil {
			t.destroy(s, r.To) // half a key serves nobody
			return named("C_CopyObject", err)
		}
	}
	return nil
}

// destroy removes every object under an id; the private ones first, so that a
// second try finds what is left.
func (t *token) destroy(s pkcs11.SessionHandle, id cryptoki.KeyID) error {
	handles, err := t.handles(s, id)
	if err != nil {
		return err
	}
	k, err := t.describe(s, handles)
	switch {
	case err == nil:
		if err := t.m.DestroyObject(s, k.private); err != nil {
			return named("C_DestroyObject", err)
		}
	case len(handles) == 0 || lostToken(err):
		return err
	}
	for _, h := range handles {
		if k != nil && h == k.private {
			continue
		}
		if err := t.m.DestroyObject(s, h); err != nil {
			return named("C_DestroyObject", err)
		}
	}
	return nil
}

var hashOf = map[cryptoki.Algorithm]struct {
	hash           crypto.Hash
	mechanism, mgf uint
}{
	cryptoki.RSAOAEP:    {crypto.SHA1, pkcs11.CKM_SHA_1, pkcs11.CKG_MGF1_SHA1},
	cryptoki.RSAOAEP256: {crypto.SHA256, pkcs11.CKM_SHA256, pkcs11.CKG_MGF1_SHA256},
	cryptoki.PS256:      {crypto.SHA256, pkcs11.CKM_SHA256, pkcs11.CKG_MGF1_SHA256},
	cryptoki.PS384:      {crypto.SHA384, pkcs11.CKM_SHA384, pkcs11.CKG_MGF1_SHA384},
	cryptoki.PS512:      {crypto.SHA512, pkcs11.CKM_SHA512, pkcs11.CKG_MGF1_SHA512},
}

// decryptOAEP does the raw operation on the token and takes the padding off here:
// so every token takes SHA-256 too, which some (SoftHSM 2.6) refuse for OAEP, and
// one verdict is given, in constant time, instead of each vendor's error. A token
// without the raw operation, as in FIPS mode, is asked for the whole.
func (t *token) decryptOAEP(o *opened, s pkcs11.SessionHandle, k *object, r *cryptoki.Request) ([]byte, error) {
	alg, ok := hashOf[r.Algorithm]
	if !ok || r.Algorithm != cryptoki.RSAOAEP && r.Algorithm != cryptoki.RSAOAEP256 {
		return nil, errUnsupported
	}
	// Anybody can see this much of a value, so it is no oracle; tokens differ in
	// what they say of one that is out of range.
	size := (k.modulus.BitLen() + 7) / 8
	if len(r.Value) != size || new(big.Int).SetBytes(r.Value).Cmp(k.modulus) >= 0 {
		return nil, errInvalid
	}
	if o.can(pkcs11.CKM_RSA_X_509, pkcs11.CKF_DECRYPT) {
		err := t.m.DecryptInit(s, mechanism(pkcs11.CKM_RSA_X_509, nil), k.private)
		if err == nil {
			em, err := t.m.Decrypt(s, r.Value)
			if err != nil {
				return nil, named("C_Decrypt", err)
			}
			full := make([]byte, size) // a token may leave out zeros in front
			copy(full[max(0, size-len(em)):], em)
			clear(em)
			value, ok := openOAEP(alg.hash, full)
			if !ok {
				return nil, errInvalid
			}
			return value, nil
		}
		if !unsupported(err) && codeOf(err) != cryptoki.Refused {
			return nil, named("C_DecryptInit", err)
		}
	}
	p := pkcs11.NewOAEPParams(alg.mechanism, alg.mgf, pkcs11.CKZ_DATA_SPECIFIED, nil)
	if err := t.m.DecryptInit(s, mechanism(pkcs11.CKM_RSA_PKCS_OAEP, p), k.private); err != nil {
		return nil, named("C_DecryptInit", err)
	}
	value, err := t.m.Decrypt(s, r.Value)
	return value, named("C_Decrypt", err)
}

// keyWrap wraps or unwraps with an AES key: see tokenBlock. The blocks of one value
// are the parts of one PKCS#11 operation.
func (t *token) keyWrap(s pkcs11.SessionHandle, k *object, r *cryptoki.Request) (value []byte, err error) {
	if len(r.Value)%8 != 0 || len(r.Value) < 16 {
		return nil, errInvalid
	}
	ecb := mechanism(pkcs11.CKM_AES_ECB, nil)
	if r.Op == cryptoki.OpEncrypt {
		if err := t.m.EncryptInit(s, ecb, k.private); err != nil {
			return nil, named("C_EncryptInit", err)
		}
		value, err = keyWrap(tokenBlock{encrypt: func(b []byte) ([]byte, error) {
			out, err := t.m.EncryptUpdate(s, b)
			return out, named("C_EncryptUpdate", err)
		}}, r.Value)
		_, final := t.m.EncryptFinal(s)
		if err == nil {
			err = named("C_EncryptFinal", final)
		}
		return value, err
	}
	if len(r.Value) < 24 {
		return nil, errInvalid
	}
	if err := t.m.DecryptInit(s, ecb, k.private); err != nil {
		return nil, named("C_DecryptInit", err)
	}
	value, err = keyUnwrap(tokenBlock{decrypt: func(b []byte) ([]byte, error) {
		out, err := t.m.DecryptUpdate(s, b)
		return out, named("C_DecryptUpdate", err)
	}}, r.Value)
	_, final := t.m.DecryptFinal(s)
	if err == nil {
		err = named("C_DecryptFinal", final)
	}
	return value, err
}

var ecdsaOf = map[cryptoki.Algorithm]struct {
	curve  string
	digest int // bytes
}{
	cryptoki.ES256:  {cryptoki.P256, 32},
	cryptoki.ES256K: {cryptoki.P256K, 32},
	cryptoki.ES384:  {cryptoki.P384, 48},
	cryptoki.ES512:  {cryptoki.P521, 64},
}

// digestInfo is what stands before a digest in PKCS #1 v1.5 (RFC 8017 §9.2 note 1).
var digestInfo = map[cryptoki.Algorithm]struct {
	prefix string
	digest int // bytes
}{
	cryptoki.RS256: {"\x30\x31\x30\x0d\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x01\x05\x00\x04\x20", 32},
	cryptoki.RS384: {"\x30\x41\x30\x0d\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x02\x05\x00\x04\x30", 48},
	cryptoki.RS512: {"\x30\x51\x30\x0d\x06\x09\x60\x86\x48\x01\x65\x03\x04\x02\x03\x05\x00\x04\x40", 64},
}

// sign signs a digest, or verifies a signature of one.
func (t *token) sign(o *opened, s pkcs11.SessionHandle, k *object, r *cryptoki.Request) ([]byte, error) {
	var m []*pkcs11.Mechanism
	size, data := 0, r.Value
	ps, isPSS := hashOf[r.Algorithm]
	ec, isEC := ecdsaOf[r.Algorithm]
	rs, isPKCS1 := digestInfo[r.Algorithm]
	switch {
	case k.kind == cryptoki.EC && isEC && ec.curve == k.curve:
		m, size = mechanism(pkcs11.CKM_ECDSA, nil), ec.digest
	case k.kind == cryptoki.RSA && isPKCS1:
		m, size, data = mechanism(pkcs11.CKM_RSA_PKCS, nil), rs.digest, append([]byte(rs.prefix), r.Value...)
	case k.kind == cryptoki.RSA && isPSS && r.Algorithm[0] == 'P':
		size = ps.hash.Size()
		m = mechanism(pkcs11.CKM_RSA_PKCS_PSS, pkcs11.NewPSSParams(ps.mechanism, ps.mgf, uint(size)))
	default:
		return nil, errUnsupported
	}
	if len(r.Value) != size {
		return nil, errInvalid
	}
	if r.Op == cryptoki.OpSign {
		if err := t.m.SignInit(s, m, k.private); err != nil {
			return nil, named("C_SignInit", err)
		}
		signature, err := t.m.Sign(s, data)
		return signature, named("C_Sign", err)
	}
	if k.public == 0 {
		return nil, errMissing
	}
	if err := t.m.VerifyInit(s, m, k.public); err != nil {
		return nil, named("C_VerifyInit", err)
	}
	return nil, named("C_Verify", t.m.Verify(s, data, r.Signature))
}
