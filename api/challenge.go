package api

import (
	"encoding/base64"
	"strconv"
	"time"
)

// ClaimsChallenge returns what a WWW-Authenticate header says, after its other
// parameters, to a client whose live token was voided: get a new one, issued from
// now on, and not the one in the cache
// (learn.microsoft.com/entra/identity-platform/claims-challenge). Clients announce
// with the client capability cp1 that they understand.
func ClaimsChallenge(now time.Time) string {
	claims := `{"access_token":{"nbf":{"essential":true,"value":"` + strconv.FormatInt(now.Unix(), 10) + `"}}}`
	return `, error="insufficient_claims", claims="` + base64.StdEncoding.EncodeToString([]byte(claims)) + `"`
}
