package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"

	"github.com/kluis-io/kluis/internal/sdk"
	"github.com/kluis-io/kluis/posture"
	"github.com/kluis-io/kluis/posture/azure"
	"github.com/kluis-io/kluis/posture/export"
	"github.com/kluis-io/kluis/posture/fabric"
	"github.com/kluis-io/kluis/posture/tfplan"
)

// read adds what one --source holds.
func (s *scanFlags) read(ctx context.Context, source string, inv *posture.Inventory) error {
	kind, place, _ := strings.Cut(source, ":")
	switch {
	case kind == "export" && place != "":
		if _, err := os.Stat(place); err != nil {
			return err
		}
		return export.Read(ctx, os.DirFS(place), inv)
	case kind == "tfplan" && place != "":
		text, err := os.ReadFile(place)
		if err != nil {
			return err
		}
		info, err := os.Stat(place)
		if err != nil {
			return err
		}
		return tfplan.Read(text, place, info.ModTime().UTC(), inv)
	case source == "azure":
		return s.readAzure(ctx, inv)
	case source == "fabric":
		cred, err := azidentity.NewDefaultAzureCredential(nil)
		if err != nil {
			return err
		}
		return fabric.Read(ctx, fabric.Config{Endpoint: orDefault(s.endpoint, "https://api.fabric.microsoft.com"), Credential: cred}, inv)
	case source == "profile":
		return s.readProfile(ctx, inv)
	}
	return usageError{fmt.Errorf("--source is export:DIR, tfplan:FILE, azure, fabric or profile, not %q", source)}
}

func orDefault[S ~string](s, by S) S {
	if s == "" {
		return by
	}
	return s
}

// azurePublic is the Resource Manager of Azure's public cloud.
const azurePublic = "https://management.azure.com"

func (s *scanFlags) readAzure(ctx context.Context, inv *posture.Inventory) error {
	if len(s.subscriptions) == 0 {
		return usageError{errors.New("source azure needs --subscription")}
	}
	cred, err := azidentity.NewDefaultAzureCredential(nil)
	if err != nil {
		return err
	}
	c := azure.Config{Endpoint: orDefault(s.endpoint, azurePublic), Subscriptions: s.subscriptions, Credential: cred}
	if c.Endpoint == azurePublic { // another cloud has another Graph
		c.Graph = "https://graph.microsoft.com"
	}
	return azure.Read(ctx, c, inv)
}

// readProfile reads a kluis server as it would Azure and Fabric.
func (s *scanFlags) readProfile(ctx context.Context, inv *posture.Inventory) error {
	t, err := s.server.target()
	if err != nil {
		return err
	}
	c, err := sdk.New(t)
	if err != nil {
		return err
	}
	cred, err := c.Credential(s.server.as)
	if err != nil {
		return err
	}
	for _, endpoint := range t.ResourceManagers() {
		err := azure.Read(ctx, azure.Config{Endpoint: endpoint, Audience: azurePublic, Subscriptions: []string{t.SubscriptionID}, Credential: cred, Client: c.Options()}, inv)
		if err != nil {
			return err
		}
	}
	err = fabric.Read(ctx, fabric.Config{Endpoint: t.Endpoints["fabric"], Credential: cred, Client: c.Options()}, inv)
	var refused *azcore.ResponseError
	if errors.As(err, &refused) && refused.StatusCode == http.StatusForbidden {
		// The custodian's side has nothing to say on the platform's, and may be all there is.
		inv.Gaps = append(inv.Gaps, posture.Gap{What: "the workspaces of " + t.Endpoints["fabric"], Why: s.server.as + " may not list them"})
		return nil
	}
	return err
}
