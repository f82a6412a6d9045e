package main

import (
	"encoding/json"
	"net"

	"github.com/spf13/cobra"
)

// An azCloud is what `az cloud register --cloud-config` reads. Only this form has
// a field for Microsoft Graph, without which `az keyvault create` fails.
type azCloud struct {
	Endpoints map[string]string `json:"endpoints"`
	Suffixes  map[string]string `json:"suffixes"`
}

// describeCloud describes an installation to az. The authority is the AD FS form:
// with it az asks no other host whether the authority is genuine. Suffixes carry
// the port, unless it is 443.
func describeCloud(domain, port string) azCloud {
	host := func(service string) string {
		if service != "" {
			service += "."
		}
		if port == "443" {
			return service + domain
		}
		return net.JoinHostPort(service+domain, port)
	}
	arm, graph := "https://"+host("management"), "https://"+host("graph")
	return azCloud{
		Endpoints: map[string]string{
			"resourceManager": arm, "management": arm, "activeDirectory": "https://" + host("login") + "/adfs",
			"activeDirectoryResourceId": arm + "/", "activeDirectoryGraphResourceId": graph + "/",
			"microsoftGraphResourceId": graph + "/",
		},
		Suffixes: map[string]string{
			"keyvaultDns": "." + host("vault"), "mhsmDns": "." + host("managedhsm"), "storageEndpoint": host(""),
		},
	}
}

func azCloudCommand() *cobra.Command {
	var domain, port string
	cmd := &cobra.Command{
		Use:   "az-cloud",
		Short: "Print the cloud description that the Azure CLI needs",
		Long: `Print the cloud description that the Azure CLI needs to work with this
installation, unmodified:

  kluis az-cloud >cloud.json
  export REQUESTS_CA_BUNDLE=DIR/tls/ca.pem
  az cloud register -n kluis --cloud-config @cloud.json
  az cloud set -n kluis
  az login --service-principal -u CLIENTID -p SECRET --tenant TENANTID`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			e := json.NewEncoder(cmd.OutOrStdout())
			e.SetIndent("", "  ")
			return e.Encode(describeCloud(domain, port))
		},
	}
	_, p, _ := net.SplitHostPort(defaultConfig().Listen)
	cmd.Flags().StringVar(&domain, "domain", defaultConfig().Domain, "`NAME` under which the services' hosts lie")
	cmd.Flags().StringVar(&port, "port", p, "`PORT` that clients use")
	return cmd
}
