package client

import (
	"errors"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/runtime"
)

// FromSDK turns an official SDK's error into one of this package's, and leaves others as
// they are.
func FromSDK(p Party, err error) error {
	var refused *azcore.ResponseError
	if err == nil || !errors.As(err, &refused) || refused.RawResponse == nil {
		return err
	}
	text, _ := runtime.Payload(refused.RawResponse) // the SDK keeps it
	e := refusal(p, refused.RawResponse, text)
	e.cause = err
	return e
}
