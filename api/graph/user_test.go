package graph_test

import (
	"net/url"
	"strings"
	"testing"

	"github.com/kluis-io/kluis/identity"
)

func TestUsers(t *testing.T) {
	c := newClient(t)
	admin := c.admin.ID
	const profile = `"passwordProfile":{"password":"correct horse battery staple"}`
	status, made := c.do(t, admin, "POST", "/v1.0/users", `{"accountEnabled":true,"userPrincipalName":"Alice@example.com","displayName":"Alice",`+profile+`}`)
	if status != 201 || made["userPrincipalName"] != "alice@example.com" || made["passwordProfile"] != nil {
		t.Fatalf("%d %v", status, made)
	}
	id := made["id"].(string)
	types[id] = identity.User
	for body, want := range map[string]int{
		`{"userPrincipalName":"alice@example.com",` + profile + `}`:                                                                409,
		`{"userPrincipalName":"bob@example.com"}`:                                                                                  400,
		`{"userPrincipalName":"bob@example.com","passwordProfile":{"password":"short"}}`:                                           400,
		`{"userPrincipalName":"bob@example.com","accountEnabled":false,` + profile + `}`:                                           501,
		`{"userPrincipalName":"bob@example.com","passwordProfile":{"password":"abc","forceChangePasswordNextSignIn":true}}`:        501,
		`{"userPrincipalName":"bob@example.com","passwordProfile":{"password":"correct horse battery staple"},"accountEnabled":1}`: 400,
	} {
		if status, got := c.do(t, admin, "POST", "/v1.0/users", body); status != want {
			t.Errorf("%s: %d %v", body, status, got)
		} else if text, _ := got["error"].(map[string]any)["message"].(string); strings.Contains(text, "battery") {
			t.Errorf("the answer repeats the password: %s", text)
		}
	}
	for filter, n := range map[string]int{
		"": 1, "userPrincipalName eq 'alice@example.com'": 1, "displayName eq 'Alice'": 1, "startswith(displayName,'aL')": 1, "startswith(displayName,'b')": 0,
		"displayName eq 'admin'": 0,
	} {
		status, body := c.do(t, identity.PrincipalID(id), "GET", "/v1.0/users?$filter="+url.QueryEscape(filter), "")
		if value, ok := body["value"].([]any); status != 200 || !ok || len(value) != n {
			t.Errorf("%s: %d %v", filter, status, body)
		}
	}
	for _, filter := range []string{"startswith(displayName,'a", "startswith(displayName)", "startswith(mail,'a')", "appId eq 'x'", "startswith(displayName,'')"} {
		if status, _ := c.do(t, admin, "GET", "/v1.0/users?$filter="+url.QueryEscape(filter), ""); status != 501 {
			t.Errorf("%s: %d", filter, status)
		}
	}
	if status, body := c.do(t, identity.PrincipalID(id), "GET", "/v1.0/me", ""); status != 200 || body["id"] != id {
		t.Errorf("me: %d %v", status, body)
	}
	if status, _ := c.do(t, admin, "GET", "/v1.0/me", ""); status != 400 {
		t.Errorf("me, of an application: %d", status)
	}
	if status, _ := c.do(t, admin, "GET", "/v1.0/servicePrincipals/"+id, ""); status != 404 {
		t.Errorf("a user among the applications: %d", status)
	}
	if status, body := c.do(t, admin, "POST", "/v1.0/directoryObjects/getByIds", `{"ids":["`+id+`","`+string(admin)+`","`+nobody+`"]}`); status != 200 || len(body["value"].([]any)) != 2 {
		t.Errorf("by ids: %d %v", status, body)
	}
	for body, want := range map[string]int{
		`{` + profile + `}`: 204, `{"accountEnabled":false}`: 204, `{"accountEnabled":true}`: 204, `{}`: 501, `{"displayName":"x"}`: 501,
		`{"accountEnabled":true,` + profile + `}`: 501,
	} {
		if status, got := c.do(t, admin, "PATCH", "/v1.0/users/"+id, body); status != want {
			t.Errorf("%s: %d %v", body, status, got)
		}
	}
	if status, _ := c.do(t, identity.PrincipalID(id), "PATCH", "/v1.0/users/"+string(id), `{"accountEnabled":true}`); status != 403 {
		t.Errorf("by who is no administrator: %d", status)
	}
}
