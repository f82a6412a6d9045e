// Package azure reads resources from a Resource Manager endpoint: Azure's, in any of
// its clouds, or kluis's own. It reads, and never writes: Reader is role enough.
//
// What one query to Resource Graph answers is taken from there; what is not in it,
// children of servers, keys, diagnostic settings and role assignments, is asked of
// each resource. What may not be read becomes a gap of the inventory, and not an
// error: a scan says what it did not see.
package azure

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"golang.org/x/sync/errgroup"

	"github.com/kluis-io/kluis/posture"
)

// Config says what to read, and as whom.
type Config struct {
	Endpoint      string // "https://management.azure.com"
	Audience      string // of tokens; the endpoint if empty
	Subscriptions []string
	Credential    azcore.TokenCredential
	Client        policy.ClientOptions // transport, cloud and retries
	Graph         string               // Microsoft Graph, which tells who is in groups: "https://graph.microsoft.com"; "" for none
	Parallel      int                  // requests at a time: 8 if 0
}

// A reader is one run of [Read].
type reader struct {
	*client
	config Config

	mu       sync.Mutex
	inv      *posture.Inventory
	assigned map[string]bool // role assignments that were read: each resource tells of those above it too
}

// versions of the interfaces that are called.
const (
	subscriptionVersion = "2022-12-01"

	graphVersion      = "2024-04-01"
	listVersion       = "2021-04-01"
	vaultVersion      = "2023-07-01"
	logVersion        = "2021-05-01-preview"
	assignmentVersion = "2022-04-01"
	eventVersion      = "2022-06-15"
	pageSize          = 1000
)

// behind are the types besides those of the table that a scan needs.
var behind = []string{
	"Microsoft.KeyVault/vaults", "Microsoft.KeyVault/managedHSMs", "Microsoft.OperationalInsights/workspaces",
	"Microsoft.ElasticSan/elasticSans", "Microsoft.HealthcareApis/workspaces",
	"Microsoft.EventGrid/systemTopics", "Microsoft.Insights/metricAlerts",
}

// Read adds what the subscriptions hold. It fails only if nothing can be read at
// all, or ctx ends.
func Read(ctx context.Context, c Config, inv *posture.Inventory) error {
	if c.Parallel == 0 {
		c.Parallel = 8
	}
	r := &reader{client: newClient(c), config: c, inv: inv, assigned: map[string]bool{}}
	if err := r.subscriptions(ctx); err != nil {
		return err
	}
	found, err := r.graph(ctx)
	if status(err) == http.StatusNotFound || status(err) == http.StatusBadRequest || status(err) == http.StatusNotImplemented {
		found, err = r.list(ctx) // an endpoint without Resource Graph
	}
	if err != nil {
		return err
	}
	if err := r.each(ctx, found, r.around); err != nil || c.Graph == "" {
		return err
	}
	return r.groups(ctx)
}

// groups asks who is in the groups that have roles. What may not be read is a gap.
func (r *reader) groups(ctx context.Context) error {
	graph := &reader{client: newClient(Config{Endpoint: r.config.Graph, Credential: r.config.Credential, Client: r.config.Client})}
	for _, g := range r.inv.GroupsGranted() {
		var members []string
		path := "/v1.0/groups/" + g + "/transitiveMembers?$select=id&$top=999"
		err := graph.pages(ctx, path, func(raw json.RawMessage, _ string) {
			var one resource
			if json.Unmarshal(raw, &one) == nil {
				members = append(members, one.ID)
			}
		})
		if err != nil {
			r.inv.Gaps = append(r.inv.Gaps, posture.Gap{What: "the members of group " + g, Why: explain(err), Evidence: &posture.Evidence{Source: "azure", Time: time.Now().UTC(), Path: r.config.Graph + path}})
			continue
		}
		r.inv.AddGroup(g, members...)
	}
	return ctx.Err()
}

// subscriptions looks whether each can be seen. Resource Graph says nothing of those that
// cannot: an estate that may not be read would look like an empty one.
func (r *reader) subscriptions(ctx context.Context) error {
	var first error
	seen := 0
	for _, s := range r.config.Subscriptions {
		path := "/subscriptions/" + s + "?api-version=" + subscriptionVersion
		if err := r.call(ctx, http.MethodGet, path, nil, nil); err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			if first == nil {
				first = err
			}
			r.refused("subscription "+s, path, err)
			continue
		}
		seen++
	}
	if seen == 0 {
		return first
	}
	return nil
}

// A resource is as much of one as further questions need.
type resource struct {
	ID   string `json:"id"`
	Type string `json:"type"`
}

// typesIn returns the types asked for, those of child resources left out: they are
// asked of their parents.
func typesIn() []string {
	out := slices.Clone(behind)
	for _, r := range posture.Types() {
		if r.Part == "" && r.Type != "Microsoft.Fabric/workspaces" {
			out = append(out, r.Type)
		}
	}
	return out
}

// Query is the question to Resource Graph. It is one constant text, so that an
// endpoint that answers fixed questions only can know it.
func Query() string {
	return "Resources | where type in~ ('" + strings.Join(typesIn(), "','") + "') | project id, name, type, kind, location, tags, sku, identity, properties | order by id asc"
}

// graph asks Resource Graph, page after page.
func (r *reader) graph(ctx context.Context) ([]resource, error) {
	var found []resource
	skip := ""
	for {
		options := map[string]any{"$top": pageSize, "resultFormat": "objectArray"}
		if skip != "" {
			options["$skipToken"] = skip
		}
		body := map[string]any{"query": Query(), "subscriptions": r.config.Subscriptions, "options": options}
		var page struct {
			Data      []json.RawMessage `json:"data"`
			SkipToken string            `json:"$skipToken"`
			Truncated any               `json:"resultTruncated"`
		}
		const path = "/providers/Microsoft.ResourceGraph/resources"
		if err := r.call(ctx, http.MethodPost, path+"?api-version="+graphVersion, body, &page); err != nil {
			return nil, err
		}
		for _, raw := range page.Data {
			found = append(found, r.add(raw, path))
		}
		switch {
		case page.SkipToken == "" && fmt.Sprint(page.Truncated) == "true":
			r.gap("Resource Graph", "the answer was cut off, without a way to the rest", path)
			return found, nil
		case page.SkipToken == "" || page.SkipToken == skip:
			return found, nil
		}
		skip = page.SkipToken
	}
}

// list asks for the resources of each type, and for each resource.
func (r *reader) list(ctx context.Context) ([]resource, error) {
	var all []resource
	for _, s := range r.config.Subscriptions {
		var mine []resource
		err := r.pages(ctx, "/subscriptions/"+s+"/resources?api-version="+listVersion, func(raw json.RawMessage, _ string) {
			var one resource
			if json.Unmarshal(raw, &one) == nil && one.ID != "" && slices.ContainsFunc(typesIn(), func(t string) bool { return strings.EqualFold(t, one.Type) }) {
				mine = append(mine, one)
			}
		})
		if err != nil {
			return nil, err
		}
		all = append(all, mine...)
	}
	return all, r.each(ctx, all, func(ctx context.Context, one resource) {
		url := one.ID + "?api-version=" + r.version(one.Type)
		if err := r.get(ctx, url); err != nil {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.inv.Unread(one.ID, one.Type, "it could not be read: "+explain(err), posture.Evidence{Source: "azure", Time: time.Now().UTC(), Path: r.endpoint + url})
		}
	})
}

func (r *reader) version(typ string) string {
	for _, rule := range posture.Types() {
		if strings.EqualFold(rule.Type, typ) {
			return rule.APIVersion
		}
	}
	return vaultVersion
}

// each calls f for all resources, some at a time.
func (r *reader) each(ctx context.Context, all []resource, f func(context.Context, resource)) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(r.config.Parallel)
	for _, one := range all {
		g.Go(func() error {
			f(ctx, one)
			return ctx.Err()
		})
	}
	return g.Wait()
}

type child struct{ path, version, kind string }

// children are what lies below or beside resources of a type and is not in Resource
// Graph, by the parent's type in lower case.
var children = map[string][]child{
	"microsoft.sql/servers":                    {{"/encryptionProtector/current", "2023-08-01", "encryptionProtector"}},
	"microsoft.sql/managedinstances":           {{"/encryptionProtector/current", "2023-08-01", "encryptionProtector"}},
	"microsoft.dbforpostgresql/servers":        {{"/keys", "2017-12-01", "keys"}},
	"microsoft.dbformysql/servers":             {{"/keys", "2017-12-01", "keys"}},
	"microsoft.storage/storageaccounts":        {{"/encryptionScopes", "2024-01-01", ""}, roleAssignments},
	"microsoft.elasticsan/elasticsans":         {{"/volumeGroups", "2023-01-01", ""}},
	"microsoft.operationalinsights/workspaces": {{"/linkedStorageAccounts", "2020-08-01", ""}},
	"microsoft.keyvault/vaults":                vaultChildren,
	"microsoft.keyvault/managedhsms":           vaultChildren,
	"microsoft.eventgrid/systemtopics":         {{"/eventSubscriptions", eventVersion, ""}},
	"microsoft.healthcareapis/workspaces":      {{"/fhirservices", "2024-03-31", ""}, {"/dicomservices", "2024-03-31", ""}},
}

// roleAssignments tell who may do what to keys, and to the data under them.
var roleAssignments = child{"/providers/Microsoft.Authorization/roleAssignments", assignmentVersion, "roleAssignments"}

var vaultChildren = []child{
	{"/keys", vaultVersion, ""},
	{"/providers/Microsoft.Insights/diagnosticSettings", logVersion, "diagnosticSettings"},
	roleAssignments,
	{"/providers/Microsoft.EventGrid/eventSubscriptions", eventVersion, "eventSubscriptions"},
}

// around reads what lies around one resource.
func (r *reader) around(ctx context.Context, one resource) {
	for _, c := range children[strings.ToLower(one.Type)] {
		url := one.ID + c.path + "?api-version=" + c.version
		if strings.HasSuffix(c.path, "/current") {
			r.get(ctx, url)
			continue
		}
		err := r.pages(ctx, url, func(raw json.RawMessage, path string) {
			found := r.add(raw, path)
			if strings.HasSuffix(c.path, "/keys") && found.ID != "" && strings.Contains(strings.ToLower(found.ID), "microsoft.keyvault") {
				// The list has no permitted operations, size or rotation policy.
				r.get(ctx, found.ID+"?api-version="+vaultVersion)
			}
		})
		if missing := status(err); missing == http.StatusNotFound && c.kind == "eventSubscriptions" {
			continue // an endpoint that has no events: its vaults' alerts stay unknown
		}
		if err != nil {
			r.refused(one.ID+c.path, url, err)
		} else if c.kind != "" {
			r.mu.Lock()
			r.inv.Listed(one.ID, c.kind)
			r.mu.Unlock()
		}
	}
}

// get reads and adds one resource. What it could not read is a gap too.
func (r *reader) get(ctx context.Context, url string) error {
	var raw json.RawMessage
	if err := r.call(ctx, http.MethodGet, url, nil, &raw); err != nil {
		r.refused(pathOnly(url), url, err)
		return err
	}
	r.add(raw, url)
	return nil
}

// pages reads a list, and follows it only within the endpoint that it began at.
func (r *reader) pages(ctx context.Context, url string, f func(raw json.RawMessage, path string)) error {
	for url != "" {
		var page struct {
			Value []json.RawMessage `json:"value"`
			Next  string            `json:"nextLink"`
			Graph string            `json:"@odata.nextLink"`
		}
		if err := r.call(ctx, http.MethodGet, url, nil, &page); err != nil {
			return err
		}
		for _, raw := range page.Value {
			f(raw, url)
		}
		page.Next = cmp.Or(page.Next, page.Graph)
		next, inside := strings.CutPrefix(page.Next, r.endpoint)
		if page.Next != "" && !inside && !strings.HasPrefix(page.Next, "/") {
			return errors.New("its next page lies at another endpoint")
		}
		if next == url {
			return errors.New("its next page is the page itself")
		}
		url = next
	}
	return nil
}

// add adds one object as it was answered.
func (r *reader) add(raw json.RawMessage, path string) resource {
	var body map[string]any
	var one resource
	if err := json.Unmarshal(raw, &body); err != nil {
		r.gap(pathOnly(path), "the answer is no object", path)
		return one
	}
	one.ID, _ = body["id"].(string)
	one.Type, _ = body["type"].(string)
	sum := sha256.Sum256(raw)
	r.mu.Lock()
	defer r.mu.Unlock()
	if low := strings.ToLower(one.ID); strings.Contains(low, "/providers/microsoft.authorization/roleassignments/") {
		if r.assigned[low] {
			return one
		}
		r.assigned[low] = true
	}
	r.inv.Add(body, posture.Evidence{Source: "azure", Time: time.Now().UTC(), SHA256: hex.EncodeToString(sum[:]), Path: r.endpoint + path})
	return one
}

// gap notes what was not read, and by which call.
func (r *reader) gap(what, why, path string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.inv.Gaps = append(r.inv.Gaps, posture.Gap{What: what, Why: why, Evidence: &posture.Evidence{Source: "azure", Time: time.Now().UTC(), Path: r.endpoint + path}})
}

func (r *reader) refused(what, path string, err error) { r.gap(what, explain(err), path) }

// status returns an answer's status, 0 if there was none.
func status(err error) int {
	var e *azcore.ResponseError
	if errors.As(err, &e) {
		return e.StatusCode
	}
	return 0
}

// explain says what an answer was, without its headers and body.
func explain(err error) string {
	var e *azcore.ResponseError
	if errors.As(err, &e) {
		return strings.TrimSpace(fmt.Sprintf("%d %s", e.StatusCode, e.ErrorCode))
	}
	return err.Error()
}
