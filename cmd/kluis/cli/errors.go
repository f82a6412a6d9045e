package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
)

// Explain makes a service's error one that people read: its code and its own
// words, instead of the whole exchange.
func Explain(err error) error {
	var re *azcore.ResponseError
	if !errors.As(err, &re) {
		return err
	}
	message := ""
	if re.RawResponse != nil && re.RawResponse.Body != nil {
		if body, rerr := io.ReadAll(re.RawResponse.Body); rerr == nil {
			var shape struct {
				Error struct {
					Message string `json:"message"`
				} `json:"error"`
			}
			if json.Unmarshal(body, &shape) == nil {
				message = shape.Error.Message
			}
		}
	}
	if message == "" {
		message = "the request was refused"
	}
	return fmt.Errorf("%d %s: %s", re.StatusCode, re.ErrorCode, message)
}
