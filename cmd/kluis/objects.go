package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"

	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/internal/durable"
	"github.com/kluis-io/kluis/lake"
	"github.com/kluis-io/kluis/objstore/azblob"
	"github.com/kluis-io/kluis/objstore/local"
	"github.com/kluis-io/kluis/objstore/remote"
	"github.com/kluis-io/kluis/objstore/s3"
)

// The kinds of object stores elsewhere, which are the schemes of their addresses.
const (
	schemeS3    = "s3"     // s3://BUCKET/PREFIX?endpoint=URL&region=NAME&overwrite=true
	schemeAzure = "azblob" // azblob://ACCOUNT/CONTAINER/PREFIX?endpoint=URL
)

// An objectsAddress says where in an object store extents or records lie.
type objectsAddress struct {
	scheme    string // "" is the platform's folder
	account   string // of azblob
	bucket    string // or container
	prefix    string
	endpoint  string
	region    string
	overwrite bool
}

// parseObjects reads the setting objects. "" is the platform's folder.
func parseObjects(text string) (objectsAddress, error) {
	if text == "" {
		return objectsAddress{}, nil
	}
	return parseAddress("--objects", text)
}

// parseAddress reads a setting that names an object store.
func parseAddress(setting, text string) (a objectsAddress, err error) {
	u, err := url.Parse(text)
	if err != nil {
		return a, errors.New(setting + " is not a URL") // which might hold what it must not
	}
	if u.User != nil {
		return a, errors.New(setting + " holds a credential: give it in the environment or in a file")
	}
	a.scheme, a.bucket, a.prefix = u.Scheme, u.Host, strings.Trim(u.Path, "/")
	q, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return a, errors.New(setting + ": what is behind its question mark cannot be read")
	}
	known := []string{"endpoint"}
	switch a.scheme {
	case schemeS3:
		known = append(known, "region", "overwrite")
		a.region, a.overwrite = q.Get("region"), q.Get("overwrite") == "true"
	case schemeAzure:
		a.account = a.bucket
		a.bucket, a.prefix, _ = strings.Cut(a.prefix, "/")
	default:
		return a, fmt.Errorf("%s begins with s3:// or azblob://, not %q", setting, a.scheme)
	}
	for name := range q {
		if !slices.Contains(known, name) {
			return a, fmt.Errorf("%s: there is no parameter %q; there are %s", setting, name, strings.Join(known, ", "))
		}
	}
	if a.bucket == "" || a.scheme == schemeAzure && a.account == "" {
		return a, errors.New(setting + " is s3://BUCKET/PREFIX or azblob://ACCOUNT/CONTAINER/PREFIX, and the prefix may be left out")
	}
	a.endpoint = q.Get("endpoint")
	return a, checkEndpoint(setting, a.endpoint)
}

// checkEndpoint demands TLS, but on this machine.
func checkEndpoint(setting, text string) error {
	if text == "" {
		return nil
	}
	u, err := url.Parse(text)
	if err != nil || u.Host == "" || u.User != nil || u.RawQuery != "" {
		return errors.New(setting + ": the endpoint is a URL such as https://store.example.com:9000")
	}
	ip, _ := netip.ParseAddr(u.Hostname())
	if u.Scheme != "https" && (u.Scheme != "http" || !ip.IsLoopback() && u.Hostname() != "localhost") {
		return errors.New(setting + ": the endpoint is an https URL; http is for a store on this machine alone")
	}
	return nil
}

// String names the place, without how it is reached.
func (a objectsAddress) String() string {
	switch a.scheme {
	case "":
		return "the folder " + extentsDir
	case schemeAzure:
		return strings.TrimSuffix(a.scheme+"://"+a.account+"/"+a.bucket+"/"+a.prefix, "/")
	}
	return strings.TrimSuffix(a.scheme+"://"+a.bucket+"/"+a.prefix, "/")
}

// objects opens where the extents of the platform in the folder lie, and makes sure
// that it is where they lay before.
func (c Config) objects(ctx context.Context, dir string) (lake.Objects, error) {
	a, err := parseObjects(c.Objects)
	if err != nil {
		return nil, usageError{err}
	}
	recorded, err := os.ReadFile(filepath.Join(dir, objectsFile))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	was := cmp.Or(strings.TrimSpace(string(recorded)), objectsAddress{}.String())
	if was != a.String() && (len(recorded) > 0 || !isEmpty(ctx, filepath.Join(dir, extentsDir))) {
		return nil, usageError{fmt.Errorf("the extents of this platform lie in %s, and the configuration says %s: see \"Moving\" in docs/objects.md", was, a)}
	}
	if a.scheme == "" {
		return local.Open(filepath.Join(dir, extentsDir))
	}
	pool, err := c.pool()
	if err != nil {
		return nil, err
	}
	return a.open(ctx, c.ObjectsCredential, remote.HTTPClient(pool))
}

// isEmpty tells that no object lies in a folder.
func isEmpty(ctx context.Context, dir string) bool {
	if _, err := os.Stat(dir); errors.Is(err, fs.ErrNotExist) {
		return true
	}
	s, err := local.Open(dir)
	return err == nil && s.List(ctx, func(string, time.Time) error { return fs.ErrExist }) == nil
}

// openObjects opens where extents lie, takes a store elsewhere for this installation,
// and records that they lie there from now on.
func (s *server) openObjects(ctx context.Context) error {
	if s.operator == nil {
		return nil
	}
	objects, err := s.config.claimObjects(ctx, s.operator.dir, s.identity.Instance)
	if err != nil {
		return err
	}
	s.objects = s.config.watchObjects(objects)
	return nil
}

// claimObjects opens where the extents of the platform in the folder lie, and takes a
// store elsewhere for the installation.
func (c Config) claimObjects(ctx context.Context, dir, instance string) (lake.Objects, error) {
	objects, err := c.objects(ctx, dir)
	if err != nil {
		return nil, err
	}
	if there, ok := objects.(*remote.Store); ok {
		if err := there.Claim(ctx, instance); err != nil {
			return nil, fmt.Errorf("--objects: %w", err)
		}
		a, _ := parseObjects(c.Objects)
		if err := durable.WriteFile(filepath.Join(dir, objectsFile), []byte(a.String()+"\n"), 0o600); err != nil {
			return nil, err
		}
	}
	return objects, nil
}

// open opens a store elsewhere. It asks it nothing.
func (a objectsAddress) open(ctx context.Context, credentialFile string, client *http.Client) (*remote.Store, error) {
	if a.scheme == schemeS3 {
		return s3.Open(ctx, s3.Config{
			Bucket: a.bucket, Prefix: a.prefix, Endpoint: a.endpoint, Region: a.region, Overwrite: a.overwrite,
			Credentials: credentialFile, HTTP: client,
		})
	}
	c := azblob.Config{Account: a.account, Container: a.bucket, Prefix: a.prefix, Endpoint: a.endpoint, HTTP: client}
	if err := azureCredential(&c, credentialFile, client); err != nil {
		return nil, err
	}
	return azblob.Open(c)
}

// azureCredential sets the key or the tokens for a storage account: those of the file,
// else the key in AZURE_STORAGE_KEY, else those that azidentity finds by itself.
func azureCredential(c *azblob.Config, file string, client *http.Client) (err error) {
	if file == "" {
		if c.Key = os.Getenv("AZURE_STORAGE_KEY"); c.Key == "" {
			c.Tokens, err = azidentity.NewDefaultAzureCredential(nil)
		}
		return err
	}
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	defer clear(text)
	var held struct {
		AccountKey string `json:"accountKey"`
		credential
	}
	if err := json.Unmarshal(text, &held); err != nil {
		return fault.New(fault.InvalidArgument, file+" is not JSON.")
	}
	switch {
	case held.AccountKey != "":
		c.Key = held.AccountKey
	case held.Tenant != "" && held.Authority != "":
		c.Tokens, err = held.tokens(strings.TrimSuffix(held.Authority, "/"), client.Transport)
	default:
		err = usageError{fmt.Errorf("%s holds neither accountKey nor tenantId, authority and a principal", file)}
	}
	return err
}
