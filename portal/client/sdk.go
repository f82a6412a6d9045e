package client

import (
	"errors"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
)

// FromSDK turns an official SDK's error into one of this package's, and leaves others as
// they are.
func FromSDK(p Party, err error) error {
	var refused *azcore.ResponseError
	if err == nil || !errors.As(err, &refused) {
		return err
	}
	e := &Error{Party: p.Name, Status: refused.StatusCode, Code: refused.ErrorCode, Message: "It answered " + refused.ErrorCode + ".", cause: err}
	if r := refused.RawResponse; r != nil {
		e.RequestID = r.Header.Get("x-ms-request-id")
	}
	// The text is the answer's body, with the request around it.
	if _, body, found := strings.Cut(refused.Error(), `"message": "`); found {
		e.Message, _, _ = strings.Cut(body, `"`)
	}
	return e
}
