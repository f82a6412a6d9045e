package keyvault

import (
	"encoding/base64"
	"encoding/json"
	"strings"

	"github.com/kluis-io/kluis/fault"
)

// octets are bytes in base64url without padding (RFC 7515 §2); padding is taken.
type octets []byte

// MarshalJSON implements [json.Marshaler].
func (o octets) MarshalJSON() ([]byte, error) {
	return json.Marshal(base64.RawURLEncoding.EncodeToString(o))
}

// UnmarshalJSON implements [json.Unmarshaler].
func (o *octets) UnmarshalJSON(b []byte) error {
	var s *string
	if err := json.Unmarshal(b, &s); err != nil || s == nil {
		return err
	}
	d, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(*s, "="))
	if err != nil {
		return fault.New(fault.InvalidArgument, "A value is not base64url.")
	}
	*o = d
	return nil
}
