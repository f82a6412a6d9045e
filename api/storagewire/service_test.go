package storagewire_test

import (
	"errors"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/bloberror"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/container"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/lease"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/sas"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/service"
	"github.com/google/go-cmp/cmp"
)

// byKey returns a client of the account that signs with its key.
func byKey(t *testing.T, e endpoint, key string) *azblob.Client {
	t.Helper()
	cred, err := azblob.NewSharedKeyCredential("acct1", key)
	if err != nil {
		t.Fatal(err)
	}
	c, err := azblob.NewClientWithSharedKeyCredential(e.blob, cred, &azblob.ClientOptions{ClientOptions: e.client})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// What is set is read back, and what a request does not name stays.
func TestServiceProperties(t *testing.T) {
	ctx := t.Context()
	all, key, _ := accountEndpoints(t)
	c := byKey(t, all[0], key).ServiceClient()
	yes, no, days := new(true), new(false), new(int32(5))
	kept := &service.RetentionPolicy{Enabled: yes, Days: days}
	set := func(o service.SetPropertiesOptions) {
		t.Helper()
		if _, err := c.SetProperties(ctx, &o); err != nil {
			t.Fatal(err)
		}
	}
	set(service.SetPropertiesOptions{Logging: &service.Logging{Version: new("2.0"), Read: yes, Write: no, Delete: no, RetentionPolicy: kept}})
	set(service.SetPropertiesOptions{HourMetrics: &service.Metrics{Enabled: yes, IncludeAPIs: yes, RetentionPolicy: kept}, DefaultServiceVersion: new("2019-12-12")})
	set(service.SetPropertiesOptions{CORS: []*service.CORSRule{{
		AllowedOrigins: new("https://a.test,https://b.test"), AllowedMethods: new("GET, PUT"), AllowedHeaders: new("x-ms-*"), ExposedHeaders: new("etag"), MaxAgeInSeconds: new(int32(7)),
	}}})
	set(service.SetPropertiesOptions{DeleteRetentionPolicy: &service.RetentionPolicy{Enabled: no}, StaticWebsite: &service.StaticWebsite{Enabled: no}})
	got, err := c.GetProperties(ctx, nil)
	if err != nil {
		t.Fatal(err)
	}
	want := service.StorageServiceProperties{
		Logging:       &service.Logging{Version: new("2.0"), Read: yes, Write: no, Delete: no, RetentionPolicy: kept},
		HourMetrics:   &service.Metrics{Version: new("1.0"), Enabled: yes, IncludeAPIs: yes, RetentionPolicy: kept},
		MinuteMetrics: &service.Metrics{Version: new("1.0"), Enabled: no, RetentionPolicy: &service.RetentionPolicy{Enabled: no}},
		CORS: []*service.CORSRule{{
			AllowedOrigins: new("https://a.test,https://b.test"), AllowedMethods: new("GET,PUT"), AllowedHeaders: new("x-ms-*"), ExposedHeaders: new("etag"), MaxAgeInSeconds: new(int32(7)),
		}},
		DefaultServiceVersion: new("2019-12-12"), DeleteRetentionPolicy: &service.RetentionPolicy{Enabled: no}, StaticWebsite: &service.StaticWebsite{Enabled: no},
	}
	if diff := cmp.Diff(want, got.StorageServiceProperties); diff != "" {
		t.Errorf("set (-) and read (+): %s", diff)
	}
	for name, o := range map[string]service.SetPropertiesOptions{
		"FeatureNotSupportedForAccount":  {DeleteRetentionPolicy: kept},
		"FeatureNotSupportedForAccount ": {StaticWebsite: &service.StaticWebsite{Enabled: yes}},
		"InvalidXmlDocument":             {DeleteRetentionPolicy: &service.RetentionPolicy{Enabled: yes}},
		"InvalidXmlDocument ":            {DefaultServiceVersion: new("newest")},
		"InvalidXmlDocument  ":           {CORS: []*service.CORSRule{{AllowedOrigins: new("https://*.test"), AllowedMethods: new("GET")}}},
	} {
		if _, err := c.SetProperties(ctx, &o); !bloberror.HasCode(err, bloberror.Code(strings.TrimSpace(name))) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if got, err = c.GetProperties(ctx, nil); err != nil || cmp.Diff(want, got.StorageServiceProperties) != "" {
		t.Errorf("a refused change changed something: %v", err)
	}
	if _, err := c.GetStatistics(ctx, nil); !bloberror.HasCode(err, bloberror.InvalidQueryParameterValue) {
		t.Errorf("statistics of a secondary location: %v", err)
	}
	// A signature that may only read does not set.
	url, err := c.GetSASURL(sas.AccountResourceTypes{Service: true}, sas.AccountPermissions{Read: true}, time.Now().Add(time.Hour), nil)
	if err != nil {
		t.Fatal(err)
	}
	reader, err := service.NewClientWithNoCredential(url, &service.ClientOptions{ClientOptions: all[0].client})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := reader.GetProperties(ctx, nil); err != nil {
		t.Errorf("a signature that may read: %v", err)
	}
	if _, err := reader.SetProperties(ctx, &service.SetPropertiesOptions{StaticWebsite: &service.StaticWebsite{Enabled: no}}); !bloberror.HasCode(err, bloberror.AuthorizationPermissionMismatch) {
		t.Errorf("a signature that may read sets: %v", err)
	}
}

// askHeaders asks without a body and returns the answer's status and headers.
func askHeaders(t *testing.T, e endpoint, method, url string, headers ...string) (int, http.Header) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, h := range headers {
		name, v, _ := strings.Cut(h, ": ")
		r.Header.Set(name, v)
	}
	resp, err := e.client.Transport.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	io.Copy(io.Discard, resp.Body)
	return resp.StatusCode, resp.Header
}

// A browser is told what the account's rules allow, on both dialects, and nothing
// while there are none.
func TestCORS(t *testing.T) {
	ctx := t.Context()
	all, key, _ := accountEndpoints(t)
	for _, e := range all {
		t.Run(e.name, func(t *testing.T) {
			c := byKey(t, e, key)
			none := []*service.CORSRule{}
			if _, err := c.CreateContainer(ctx, "pages", nil); err != nil && !bloberror.HasCode(err, bloberror.ContainerAlreadyExists) {
				t.Fatal(err)
			}
			if _, err := c.UploadBuffer(ctx, "pages", "a.txt", []byte("hello"), &azblob.UploadBufferOptions{Metadata: map[string]*string{"team": new("x")}}); err != nil {
				t.Fatal(err)
			}
			if _, err := c.ServiceClient().SetProperties(ctx, &service.SetPropertiesOptions{CORS: none}); err != nil {
				t.Fatal(err)
			}
			preflight := func(url string, headers ...string) (int, http.Header) {
				t.Helper()
				return askHeaders(t, e, "OPTIONS", url, headers...)
			}
			blobURL := e.blob + "/pages/a.txt"
			signed, err := c.ServiceClient().NewContainerClient("pages").NewBlobClient("a.txt").GetSASURL(sas.BlobPermissions{Read: true}, time.Now().Add(time.Hour), nil)
			if err != nil {
				t.Fatal(err)
			}
			if status, h := preflight(blobURL, "Origin: https://a.test", "Access-Control-Request-Method: GET"); status != 403 || h.Get("x-ms-error-code") != "CorsPreflightFailure" {
				t.Errorf("without rules: %d %v", status, h)
			}
			if _, h := askHeaders(t, e, "GET", signed, "Origin: https://a.test"); h.Get("Access-Control-Allow-Origin") != "" || h.Get("Vary") != "" {
				t.Errorf("without rules: %v", h)
			}
			rules := []*service.CORSRule{
				{AllowedOrigins: new("https://a.test"), AllowedMethods: new("GET,PUT"), AllowedHeaders: new("x-ms-*,content-type"), ExposedHeaders: new("x-ms-meta-*,etag"), MaxAgeInSeconds: new(int32(60))},
				{AllowedOrigins: new("*"), AllowedMethods: new("HEAD"), AllowedHeaders: new(""), ExposedHeaders: new(""), MaxAgeInSeconds: new(int32(0))},
			}
			if _, err := c.ServiceClient().SetProperties(ctx, &service.SetPropertiesOptions{CORS: rules}); err != nil {
				t.Fatal(err)
			}
			for _, url := range []string{blobURL, e.dfs + "/pages/a.txt?action=append", e.blob + "/nowhere/b?comp=x&comp=y"} {
				status, h := preflight(url, "Origin: https://a.test", "Access-Control-Request-Method: PUT", "Access-Control-Request-Headers: x-ms-version, Content-Type")
				if status != 200 || h.Get("Access-Control-Allow-Origin") != "https://a.test" || h.Get("Access-Control-Allow-Methods") != "PUT" ||
					h.Get("Access-Control-Allow-Headers") != "x-ms-version, Content-Type" || h.Get("Access-Control-Max-Age") != "60" || h.Get("Access-Control-Allow-Credentials") != "true" || h.Get("Vary") != "Origin" {
					t.Errorf("%s: %d %v", url, status, h)
				}
			}
			for name, headers := range map[string][]string{
				"another origin": {"Origin: https://A.test", "Access-Control-Request-Method: GET"},
				"another method": {"Origin: https://a.test", "Access-Control-Request-Method: DELETE"},
				"another header": {"Origin: https://a.test", "Access-Control-Request-Method: GET", "Access-Control-Request-Headers: x-ms-date,cookie"},
				"method's case":  {"Origin: https://a.test", "Access-Control-Request-Method: get"},
			} {
				if status, h := preflight(blobURL, headers...); status != 403 || h.Get("Access-Control-Allow-Origin") != "" {
					t.Errorf("%s: %d %v", name, status, h)
				}
			}
			for name, headers := range map[string][]string{"no method": {"Origin: https://a.test"}, "no origin": {"Access-Control-Request-Method: GET"}} {
				if status, h := preflight(blobURL, headers...); status != 400 {
					t.Errorf("%s: %d %v", name, status, h)
				}
			}
			status, h := askHeaders(t, e, "GET", signed, "Origin: https://a.test")
			if status != 200 || h.Get("Access-Control-Allow-Origin") != "https://a.test" || h.Get("Access-Control-Expose-Headers") != "Etag,x-ms-meta-team" {
				t.Errorf("a page of the origin: %d %v", status, h)
			}
			// Whoever may not is told so, and a page of the origin may know why.
			if status, h := askHeaders(t, e, "GET", blobURL, "Origin: https://a.test"); status != 401 || h.Get("Access-Control-Allow-Origin") != "https://a.test" {
				t.Errorf("a page of the origin without a signature: %d %v", status, h)
			}
			if status, h := askHeaders(t, e, "GET", signed, "Origin: https://b.test"); status != 200 || h.Get("Access-Control-Allow-Origin") != "" || h.Get("Vary") != "Origin" {
				t.Errorf("a page of another origin: %d %v", status, h)
			}
			if _, h := askHeaders(t, e, "GET", signed); h.Get("Access-Control-Allow-Origin") != "" || h.Get("Vary") != "Origin" {
				t.Errorf("no page: %v", h)
			}
			if _, h := askHeaders(t, e, "HEAD", signed, "Origin: https://b.test"); h.Get("Access-Control-Allow-Origin") != "*" || h.Get("Vary") != "" || h.Get("Access-Control-Allow-Credentials") != "" {
				t.Errorf("a page of any origin: %v", h)
			}
		})
	}
}

// A request without a version is one of the account's default version.
func TestDefaultServiceVersion(t *testing.T) {
	all, key, _ := accountEndpoints(t)
	e := all[0]
	if _, err := byKey(t, e, key).ServiceClient().SetProperties(t.Context(), &service.SetPropertiesOptions{DefaultServiceVersion: new("2021-12-02")}); err != nil {
		t.Fatal(err)
	}
	ask := func(headers ...string) string {
		status, h := askHeaders(t, e, "GET", e.blob+"/?comp=list", append(headers, "Authorization: Bearer good")...)
		if status != 200 {
			t.Errorf("%d %v", status, h)
		}
		return h.Get("x-ms-version")
	}
	if v := ask(); v != "2021-12-02" {
		t.Errorf("without a version: %s", v)
	}
	if v := ask("x-ms-version: 2020-02-10"); v != "2020-02-10" {
		t.Errorf("with a version: %s", v)
	}
}

// Get Container Properties heeds the id of a lease.
func TestContainerPropertiesLease(t *testing.T) {
	ctx := t.Context()
	all, key, _ := accountEndpoints(t)
	c := byKey(t, all[0], key)
	if _, err := c.CreateContainer(ctx, "leased", nil); err != nil {
		t.Fatal(err)
	}
	con := c.ServiceClient().NewContainerClient("leased")
	ask := func(id string) error {
		_, err := con.GetProperties(ctx, &container.GetPropertiesOptions{LeaseAccessConditions: &container.LeaseAccessConditions{LeaseID: &id}})
		return err
	}
	const mine, other = "11111111-1111-4111-8111-111111111111", "22222222-2222-4222-8222-222222222222"
	if err := ask(mine); err == nil {
		t.Error("a lease that nobody holds")
	}
	l, err := lease.NewContainerClient(con, &lease.ContainerClientOptions{LeaseID: new(mine)})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := l.AcquireLease(ctx, -1, nil); err != nil {
		t.Fatal(err)
	}
	if err := ask(mine); err != nil {
		t.Error(err)
	}
	if err := ask(other); !isPrecondition(err) {
		t.Errorf("another's lease: %v", err)
	}
}

func isPrecondition(err error) bool {
	re := new(azcore.ResponseError)
	return errors.As(err, &re) && re.StatusCode == http.StatusPreconditionFailed
}
