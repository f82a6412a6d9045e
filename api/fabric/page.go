package fabric

import (
	"encoding/base64"
	"net/url"
	"strings"

	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/workspace"
)

// maxToken bounds a paging token that is looked at, in bytes.
const maxToken = 512

// pageToken returns the token that continues a listing after an id. It names the
// listing, so that another one does not take it. It holds nothing that the page
// before it did not show.
func pageToken(listing, after string) string {
	return base64.RawURLEncoding.EncodeToString([]byte("1 " + after + " " + listing))
}

// parsePageToken returns the id after which a listing goes on; "" for no token. It
// fails with [fault.InvalidContinuation] on what pageToken did not make for it.
func parsePageToken(token, listing string) (after string, err error) {
	if token == "" {
		return "", nil
	}
	if len(token) <= maxToken {
		raw, err := base64.RawURLEncoding.Strict().DecodeString(token)
		after, of, _ := strings.Cut(strings.TrimPrefix(string(raw), "1 "), " ")
		if err == nil && strings.HasPrefix(string(raw), "1 ") && of == listing && workspace.IsID(after) {
			return after, nil
		}
	}
	return "", fault.New(fault.InvalidContinuation, "The continuation token is not one of this listing.").
		WithMend("Begin the listing again.")
}

// after reads the request's paging token.
func (c *call) after(listing string) (string, error) {
	return parsePageToken(c.r.URL.Query().Get("continuationToken"), listing)
}

// next returns the token and address of a listing's next page.
func (c *call) next(listing, last string) paging {
	q := make(url.Values)
	for k, v := range c.r.URL.Query() {
		q[k] = v
	}
	token := pageToken(listing, last)
	q.Set("continuationToken", token)
	return paging{token, c.url(c.r.URL.EscapedPath() + "?" + q.Encode())}
}

// paging is part of each page but the last, where it is empty.
type paging struct {
	Token string `json:"continuationToken,omitempty"`
	URI   string `json:"continuationUri,omitempty"`
}

type page[T any] struct {
	Value []T `json:"value"`
	paging
}
