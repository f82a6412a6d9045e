//go:build cgo

package main

import (
	"crypto/rand"
	"errors"
	"fmt"
	"slices"

	"github.com/miekg/pkcs11"

	"github.com/kluis-io/kluis/internal/cryptoki"
)

// A callError is an error of a PKCS#11 function.
type callError struct {
	function string
	code     pkcs11.Error
}

func (e callError) Error() string {
	return fmt.Sprintf("%s: %s", e.function, e.code.Error())
}

func (e callError) Unwrap() error { return e.code }

// named tells which function failed.
func named(function string, err error) error {
	var code pkcs11.Error
	if err == nil || !errors.As(err, &code) {
		return err
	}
	return callError{function, code}
}

func isCode(err error, codes ...pkcs11.Error) bool {
	var code pkcs11.Error
	return errors.As(err, &code) && slices.Contains(codes, code)
}

// actionProhibited is newer than the binding (PKCS#11 2.40).
const actionProhibited pkcs11.Error = 0x1b

// lostToken reports whether the token, the login or every session is gone, so that
// only opening it again helps.
func lostToken(err error) bool {
	return isCode(err, pkcs11.CKR_SESSION_HANDLE_INVALID, pkcs11.CKR_SESSION_CLOSED, pkcs11.CKR_DEVICE_ERROR,
		pkcs11.CKR_DEVICE_REMOVED, pkcs11.CKR_TOKEN_NOT_PRESENT, pkcs11.CKR_TOKEN_NOT_RECOGNIZED,
		pkcs11.CKR_USER_NOT_LOGGED_IN, pkcs11.CKR_SLOT_ID_INVALID, pkcs11.CKR_CRYPTOKI_NOT_INITIALIZED)
}

// spoilt reports whether the session's state is in doubt.
func spoilt(err error) bool {
	return isCode(err, pkcs11.CKR_GENERAL_ERROR, pkcs11.CKR_FUNCTION_FAILED, pkcs11.CKR_FUNCTION_CANCELED,
		pkcs11.CKR_HOST_MEMORY, pkcs11.CKR_DEVICE_MEMORY, pkcs11.CKR_OPERATION_ACTIVE,
		pkcs11.CKR_OPERATION_NOT_INITIALIZED, pkcs11.CKR_BUFFER_TOO_SMALL)
}

// stale reports whether a cached handle stands for nothing any more.
func stale(err error) bool {
	return isCode(err, pkcs11.CKR_OBJECT_HANDLE_INVALID, pkcs11.CKR_KEY_HANDLE_INVALID)
}

// unsupported reports whether the token lacks the mechanism or its parameters.
func unsupported(err error) bool {
	return isCode(err, pkcs11.CKR_MECHANISM_INVALID, pkcs11.CKR_MECHANISM_PARAM_INVALID, pkcs11.CKR_ARGUMENTS_BAD,
		pkcs11.CKR_FUNCTION_NOT_SUPPORTED, pkcs11.CKR_KEY_SIZE_RANGE, pkcs11.CKR_KEY_TYPE_INCONSISTENT,
		pkcs11.CKR_DOMAIN_PARAMS_INVALID, pkcs11.CKR_CURVE_NOT_SUPPORTED, pkcs11.CKR_TEMPLATE_INCONSISTENT,
		pkcs11.CKR_ATTRIBUTE_VALUE_INVALID, pkcs11.CKR_ATTRIBUTE_TYPE_INVALID, pkcs11.CKR_ATTRIBUTE_READ_ONLY)
}

var (
	errInvalid     = errors.New("the value does not fit the key and the algorithm")
	errMissing     = errors.New("no such key on the token")
	errExists      = errors.New("the id is taken")
	errUnsupported = errors.New("not among the token's mechanisms")
)

// codeOf says what an error means to who asked. What nobody foresaw is Failed,
// never a refusal: only a token's clear word stops a key's use.
func codeOf(err error) cryptoki.Code {
	var away errAway
	switch {
	case err == nil:
		return cryptoki.OK
	case errors.Is(err, errInvalid), errors.Is(err, errWrapped),
		isCode(err, pkcs11.CKR_ENCRYPTED_DATA_INVALID, pkcs11.CKR_ENCRYPTED_DATA_LEN_RANGE, pkcs11.CKR_DATA_INVALID,
			pkcs11.CKR_DATA_LEN_RANGE, pkcs11.CKR_SIGNATURE_INVALID, pkcs11.CKR_SIGNATURE_LEN_RANGE):
		return cryptoki.Invalid
	case errors.Is(err, errMissing):
		return cryptoki.Missing
	case errors.Is(err, errExists):
		return cryptoki.Exists
	case errors.Is(err, errBusy):
		return cryptoki.Busy
	case errors.As(err, &away), lostToken(err), spoilt(err), isCode(err, pkcs11.CKR_SESSION_COUNT):
		return cryptoki.Unavailable
	case isCode(err, pkcs11.CKR_KEY_FUNCTION_NOT_PERMITTED, actionProhibited):
		return cryptoki.Refused
	case errors.Is(err, errUnsupported), unsupported(err):
		return cryptoki.Unsupported
	}
	return cryptoki.Failed
}

func randomSalt() []byte {
	b := make([]byte, 16)
	rand.Read(b)
	return b
}
