package softkey

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/rand"
	"crypto/subtle"

	jose "github.com/go-jose/go-jose/v4/cipher"
	kwp "github.com/tink-crypto/tink-go/v2/kwp/subtle"

	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/vault"
)

// minWrap is the least that RFC 3394 wraps, and that is worth wrapping: 128 bits.
const minWrap = 16

func encryptOct(key []byte, m vault.Method, in vault.Input) (vault.Output, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return vault.Output{}, err
	}
	switch m.Mode {
	case vault.ModeKeyWrap:
		if len(in.Value)%8 != 0 || len(in.Value) < minWrap {
			return vault.Output{}, fault.New(fault.InvalidArgument, "AES key wrap takes 16 bytes or more, in steps of 8.").WithMend("Use CKM_AES_KEY_WRAP_PAD for other lengths.")
		}
		out, err := jose.KeyWrap(block, in.Value)
		return vault.Output{Value: out}, err
	case vault.ModeKeyWrapPad:
		w, err := newKWP(key)
		if err != nil {
			return vault.Output{}, err
		}
		out, err := w.Wrap(in.Value)
		if err != nil {
			return vault.Output{}, fault.New(fault.InvalidArgument, "Padded AES key wrap takes 16 to 8192 bytes.")
		}
		return vault.Output{Value: out}, nil
	case vault.ModeGCM:
		aead, err := cipher.NewGCM(block)
		if err != nil {
			return vault.Output{}, err
		}
		iv := make([]byte, aead.NonceSize())
		rand.Read(iv)
		sealed := aead.Seal(nil, iv, in.Value, in.AAD)
		split := len(sealed) - aead.Overhead()
		return vault.Output{Value: sealed[:split:split], Tag: sealed[split:], IV: iv, AAD: in.AAD}, nil
	case vault.ModeCBC, vault.ModeCBCPad:
		plain := bytes.Clone(in.Value)
		if m.Mode == vault.ModeCBCPad {
			n := aes.BlockSize - len(plain)%aes.BlockSize
			plain = append(plain, bytes.Repeat([]byte{byte(n)}, n)...)
		}
		cipher.NewCBCEncrypter(block, in.IV).CryptBlocks(plain, plain)
		return vault.Output{Value: plain, IV: in.IV}, nil
	}
	return vault.Output{}, fault.New(fault.NotSupported, "The algorithm is not supported.")
}

func decryptOct(key []byte, m vault.Method, in vault.Input) (vault.Output, error) {
	block, err := aes.NewCipher(key)
	if err != nil {
		return vault.Output{}, err
	}
	switch m.Mode {
	case vault.ModeKeyWrap:
		if len(in.Value)%8 != 0 || len(in.Value) < minWrap+8 {
			return vault.Output{}, errNotMade
		}
		plain, err := jose.KeyUnwrap(block, in.Value)
		if err != nil {
			return vault.Output{}, errNotMade
		}
		return vault.Output{Value: plain}, nil
	case vault.ModeKeyWrapPad:
		w, err := newKWP(key)
		if err != nil {
			return vault.Output{}, err
		}
		plain, err := w.Unwrap(in.Value)
		if err != nil {
			return vault.Output{}, errNotMade
		}
		return vault.Output{Value: plain}, nil
	case vault.ModeGCM:
		aead, err := cipher.NewGCM(block)
		if err != nil {
			return vault.Output{}, err
		}
		plain, err := aead.Open(nil, in.IV, append(bytes.Clone(in.Value), in.Tag...), in.AAD)
		if err != nil {
			return vault.Output{}, errNotMade
		}
		return vault.Output{Value: plain}, nil
	case vault.ModeCBC, vault.ModeCBCPad:
		plain := make([]byte, len(in.Value))
		cipher.NewCBCDecrypter(block, in.IV).CryptBlocks(plain, in.Value)
		if m.Mode == vault.ModeCBCPad {
			n, ok := padding(plain)
			if !ok {
				clear(plain)
				return vault.Output{}, errNotMade
			}
			plain = plain[:len(plain)-n]
		}
		return vault.Output{Value: plain, IV: in.IV}, nil
	}
	return vault.Output{}, fault.New(fault.NotSupported, "The algorithm is not supported.")
}

// padding returns how many bytes of padding a text ends with (PKCS #7), in a time
// that does not depend on the answer. That a text has none shows all the same:
// CBC with padding is for old ciphertexts, as in Azure.
func padding(plain []byte) (int, bool) {
	if len(plain) < aes.BlockSize {
		return 0, false
	}
	n := int(plain[len(plain)-1])
	good := subtle.ConstantTimeLessOrEq(1, n) & subtle.ConstantTimeLessOrEq(n, aes.BlockSize)
	for i := 1; i <= aes.BlockSize; i++ {
		inside := subtle.ConstantTimeLessOrEq(i, n)
		same := subtle.ConstantTimeByteEq(plain[len(plain)-i], byte(n))
		good &= subtle.ConstantTimeSelect(inside, same, 1)
	}
	return n, good == 1
}

// newKWP returns RFC 5649 under a key. The library knows it of 128 and 256 bits.
func newKWP(key []byte) (*kwp.KWP, error) {
	if len(key) == 24 {
		return nil, fault.New(fault.NotSupported, "CKM_AES_KEY_WRAP_PAD is not supported with keys of 192 bits.").WithMend("Use CKM_AES_KEY_WRAP.")
	}
	return kwp.NewKWP(key)
}

func mac(key []byte, m vault.Method, message []byte) []byte {
	h := hmac.New(m.Hash.New, key)
	h.Write(message)
	return h.Sum(nil)
}
