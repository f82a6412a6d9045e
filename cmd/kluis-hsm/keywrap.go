package main

import (
	"errors"

	josecipher "github.com/go-jose/go-jose/v4/cipher"
)

// A blockError carries an error of the token through a cipher's interface, which
// has none.
type blockError struct{ err error }

// A tokenBlock is AES with a key that stays on the token: one of its functions, in
// ECB mode, a block at a time. RFC 3394 needs 6 blocks for each 8 bytes. It is
// done here because tokens differ: SoftHSM and many others offer CKM_AES_KEY_WRAP
// for objects only, and what is unwrapped into an object is either sensitive, so
// that it cannot be handed out, or a key that could be read by whoever can log in.
type tokenBlock struct {
	encrypt, decrypt func([]byte) ([]byte, error)
}

func (tokenBlock) BlockSize() int            { return block }
func (b tokenBlock) Encrypt(dst, src []byte) { b.apply(b.encrypt, dst, src) }
func (b tokenBlock) Decrypt(dst, src []byte) { b.apply(b.decrypt, dst, src) }

func (b tokenBlock) apply(f func([]byte) ([]byte, error), dst, src []byte) {
	out, err := f(src[:block])
	if err == nil && len(out) != block {
		err = errors.New("the token returned part of a block")
	}
	if err != nil {
		panic(blockError{err})
	}
	copy(dst, out)
	clear(out)
}

var errWrapped = errors.New("the value does not unwrap")

// keyWrap wraps value as RFC 3394 §2.2.1 says: at least two blocks of 8 bytes.
func keyWrap(b tokenBlock, value []byte) (wrapped []byte, err error) {
	defer recoverBlock(&err)
	if len(value) < 16 || len(value)%8 != 0 {
		return nil, errWrapped
	}
	return josecipher.KeyWrap(b, value)
}

// keyUnwrap is the reverse (§2.2.2). It returns errWrapped if the integrity check
// fails.
func keyUnwrap(b tokenBlock, wrapped []byte) (value []byte, err error) {
	defer recoverBlock(&err)
	if len(wrapped) < 24 || len(wrapped)%8 != 0 {
		return nil, errWrapped
	}
	value, failed := josecipher.KeyUnwrap(b, wrapped)
	if failed != nil {
		return nil, errWrapped
	}
	return value, nil
}

func recoverBlock(err *error) {
	switch p := recover().(type) {
	case nil:
	case blockError:
		*err = p.err
	default:
		panic(p)
	}
}
