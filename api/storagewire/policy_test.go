package storagewire_test

import (
	"errors"
	"net/http"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/bloberror"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/container"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/lease"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/sas"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/service"

	"github.com/kluis-io/kluis/account"
	"github.com/kluis-io/kluis/rbac"
)

// A signature that names a stored access policy does what that allows, and nothing
// any more once the policy is gone.
func TestStoredPolicies(t *testing.T) {
	all, key, _ := accountEndpoints(t)
	e, ctx := all[0], t.Context()
	signer := must(azblob.NewSharedKeyCredential("acct1", key))(t)
	owner := must(azblob.NewClientWithSharedKeyCredential(e.blob, signer, &azblob.ClientOptions{ClientOptions: e.client}))(t)
	must(owner.CreateContainer(ctx, "mine", nil))(t)
	must(owner.UploadBuffer(ctx, "mine", "one", []byte("x"), nil))(t)
	c := owner.ServiceClient().NewContainerClient("mine")
	set := func(policies ...*container.SignedIdentifier) error {
		_, err := c.SetAccessPolicy(ctx, &container.SetAccessPolicyOptions{ContainerACL: policies})
		return err
	}
	soon := time.Now().Add(time.Hour).UTC()
	policy := func(id string, expiry *time.Time, permission *string) *container.SignedIdentifier {
		return &container.SignedIdentifier{ID: &id, AccessPolicy: &container.AccessPolicy{Expiry: expiry, Permission: permission}}
	}
	get := func(method string, v sas.BlobSignatureValues) int {
		t.Helper()
		v.ContainerName, v.Protocol = "mine", sas.ProtocolHTTPS
		q := must(v.SignWithSharedKey(signer))(t)
		res := must(e.client.Transport.Do(must(http.NewRequestWithContext(ctx, method, e.blob+"/mine/one?"+q.Encode(), http.NoBody))(t)))(t)
		res.Body.Close()
		return res.StatusCode
	}
	past := time.Now().Add(-time.Hour).UTC()
	if err := set(policy("all", &soon, new("r")), policy("time", &soon, nil), policy("over", &past, new("r"))); err != nil {
		t.Fatal(err)
	}
	if got := must(c.GetAccessPolicy(ctx, nil))(t).SignedIdentifiers; len(got) != 3 || *got[0].AccessPolicy.Permission != "r" {
		t.Errorf("policies %v", got)
	}
	for _, w := range []struct {
		name   string
		method string
		v      sas.BlobSignatureValues
		status int
	}{
		{"all", "GET", sas.BlobSignatureValues{Identifier: "all"}, 200},
		{"what the policy does not permit", "DELETE", sas.BlobSignatureValues{Identifier: "all"}, 403},
		{"permissions in both", "GET", sas.BlobSignatureValues{Identifier: "all", Permissions: "rw"}, 403},
		{"times in both", "GET", sas.BlobSignatureValues{Identifier: "all", ExpiryTime: soon}, 403},
		{"permissions in the signature", "GET", sas.BlobSignatureValues{Identifier: "time", Permissions: "r"}, 200},
		{"no permissions", "GET", sas.BlobSignatureValues{Identifier: "time"}, 403},
		{"over", "GET", sas.BlobSignatureValues{Identifier: "over"}, 403},
		{"unknown", "GET", sas.BlobSignatureValues{Identifier: "none", ExpiryTime: soon, Permissions: "r"}, 403},
	} {
		if got := get(w.method, w.v); got != w.status {
			t.Errorf("%s: %d, want %d", w.name, got, w.status)
		}
	}
	if err := set(); err != nil {
		t.Fatal(err)
	}
	if got := get("GET", sas.BlobSignatureValues{Identifier: "all"}); got != 403 {
		t.Errorf("after its policy is gone a signature gets %d", got)
	}
	if err := set(policy("a", nil, nil), policy("a", nil, nil)); !bloberror.HasCode(err, bloberror.InvalidXMLDocument) {
		t.Errorf("an id twice: %v", err)
	}
	if _, err := c.SetAccessPolicy(ctx, &container.SetAccessPolicyOptions{Access: new(container.PublicAccessTypeBlob)}); code(err) != "PublicAccessNotPermitted" {
		t.Errorf("public access: %v", err)
	}
}

// A leased container cannot be deleted without the lease, and is written as before.
func TestContainerLease(t *testing.T) {
	all, key, _ := accountEndpoints(t)
	e, ctx := all[0], t.Context()
	signer := must(azblob.NewSharedKeyCredential("acct1", key))(t)
	owner := must(azblob.NewClientWithSharedKeyCredential(e.blob, signer, &azblob.ClientOptions{ClientOptions: e.client}))(t)
	must(owner.CreateContainer(ctx, "mine", nil))(t)
	c := owner.ServiceClient().NewContainerClient("mine")
	l := must(lease.NewContainerClient(c, nil))(t)
	must(l.AcquireLease(ctx, 60, nil))(t)
	if p := must(c.GetProperties(ctx, nil))(t); *p.LeaseState != "leased" || *p.LeaseDuration != "fixed" {
		t.Errorf("%v %v", *p.LeaseState, *p.LeaseDuration)
	}
	must(owner.UploadBuffer(ctx, "mine", "one", []byte("x"), nil))(t)
	must(c.SetMetadata(ctx, &container.SetMetadataOptions{Metadata: map[string]*string{"a": new("b")}}))(t)
	if _, err := c.Delete(ctx, nil); !bloberror.HasCode(err, bloberror.LeaseIDMissing) {
		t.Errorf("without its lease: %v", err)
	}
	other := &container.AccessConditions{LeaseAccessConditions: &container.LeaseAccessConditions{LeaseID: new("11111111-1111-4111-8111-111111111111")}}
	if _, err := c.Delete(ctx, &container.DeleteOptions{AccessConditions: other}); !bloberror.HasCode(err, bloberror.LeaseIDMismatchWithContainerOperation) {
		t.Errorf("with another: %v", err)
	}
	must(l.RenewLease(ctx, nil))(t)
	must(c.Delete(ctx, &container.DeleteOptions{AccessConditions: &container.AccessConditions{
		LeaseAccessConditions: &container.LeaseAccessConditions{LeaseID: l.LeaseID()},
	}}))(t)
}

// code returns the storage code of an error.
func code(err error) string {
	var e *azcore.ResponseError
	if errors.As(err, &e) {
		return e.ErrorCode
	}
	return ""
}

// A user delegation signature ends with its principal: at once, whatever its times say.
func TestDelegationEnds(t *testing.T) {
	all, key, accounts := accountEndpoints(t)
	e, ctx := all[0], t.Context()
	signer := must(azblob.NewSharedKeyCredential("acct1", key))(t)
	owner := must(azblob.NewClientWithSharedKeyCredential(e.blob, signer, &azblob.ClientOptions{ClientOptions: e.client}))(t)
	must(owner.CreateContainer(ctx, "mine", nil))(t)
	must(owner.UploadBuffer(ctx, "mine", "one", []byte("x"), nil))(t)
	svc := must(service.NewClient(e.blob, credential("good"), &service.ClientOptions{ClientOptions: e.client}))(t)
	delegation := must(svc.GetUserDelegationCredential(ctx, service.KeyInfo{
		Start:  new(time.Now().Add(-time.Minute).UTC().Format(sas.TimeFormat)),
		Expiry: new(time.Now().Add(time.Hour).UTC().Format(sas.TimeFormat)),
	}, nil))(t)
	q := must(sas.BlobSignatureValues{
		Protocol: sas.ProtocolHTTPS, ExpiryTime: time.Now().Add(time.Hour).UTC(), Permissions: "r", ContainerName: "mine", BlobName: "one",
	}.SignWithUserDelegation(delegation))(t)
	get := func() int {
		res := must(e.client.Transport.Do(must(http.NewRequestWithContext(ctx, "GET", e.blob+"/mine/one?"+q.Encode(), http.NoBody))(t)))(t)
		res.Body.Close()
		return res.StatusCode
	}
	if got := get(); got != 200 {
		t.Fatalf("a signature that holds: %d", got)
	}
	gone.Store(true)
	if got := get(); got != 403 {
		t.Errorf("of a disabled principal: %d", got)
	}
	gone.Store(false)
	scope := account.Path{Subscription: subscription, ResourceGroup: "g", Name: "acct1"}.Scope()
	admin := rbac.Assignment{Principal: caller.Principal, PrincipalType: caller.Type, Role: rbac.RoleBasedAccessControlAdmin, Scope: "/subscriptions/" + subscription}
	if err := accounts.Provision(ctx, caller.Tenant, admin); err != nil {
		t.Fatal(err)
	}
	for _, as := range must(accounts.RoleAssignments(ctx, caller, scope, false))(t) {
		if as.Role == rbac.StorageBlobDataOwner {
			must(accounts.DeleteRoleAssignment(ctx, caller, as.Scope, as.ID))(t)
		}
	}
	if got := get(); got != 403 {
		t.Errorf("of a principal whose role is gone: %d", got)
	}
}
