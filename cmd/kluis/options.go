package main

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/pflag"
)

// An option is a field of [Config] that a flag and a variable set too.
type option struct {
	name  string // of the flag
	into  any    // the field
	usage string
}

// options are all of them. docs/configuration.md is made of this list and of the
// fields' comments.
func (c *Config) options() []option {
	return []option{
		{"data", &c.Data, "the data `DIR`ectory"},
		{"listen", &c.Listen, "`ADDR`ess and port to listen on"},
		{"domain", &c.Domain, "`NAME` under which the services' hosts lie"},
		{"roles", &c.Roles, "what this process is: vault, platform, governance"},
		{"dev", &c.Dev, "make keys, principals and a default vault on the first start"},
		{"activate-hsms", &c.ActivateHSMs, "with --dev: managed HSMs work at once, with no security domain taken out"},
		{"log", &c.Log, "debug, info, warn or error"},
		{"tls", &c.TLS, "the least `VERSION` of TLS that clients may speak: 1.3, or 1.2 for old ones"},
		{"confine", &c.Confine, "give up files that serving does not need, by Landlock: auto, require or off"},
		{"seal", &c.Seal, "seal new roots with: passphrase, pkcs11, vault"},
		{"passphrase-file", &c.PassphraseFile, "read the passphrase that seals the roots from `FILE`"},
		{"seal-key", &c.SealKey, "the `URL` of the key of a vault elsewhere that seals the roots"},
		{"seal-credential", &c.SealCredential, "the `FILE` of the principal that may use that key"},
		{"client-certificate", &c.ClientCertificate, "the PEM `FILE` of the certificate and key that the platform shows to vaults that ask for one"},
		{"objects", &c.Objects, "the `URL` of the object store for extents: s3://BUCKET/PREFIX or azblob://ACCOUNT/CONTAINER/PREFIX (default a local folder)"},
		{"objects-credential", &c.ObjectsCredential, "the `FILE` of the credential for it, if it is not in the environment"},
		{"hsm-socket", &c.HSMSocket, "the Unix `SOCKET` of kluis-hsm, for keys of the -HSM types"},
		{"public-port", &c.PublicPort, "the `PORT` that clients use, if it is not the one listened on"},
		{"lease", &c.Lease, "for how long a workspace's key is used before its vault is asked again (default 30s)"},
		{"bound", &c.Bound, "the kill-switch bound: the most that a lease may be (default 1m)"},
		{"vault-budget", &c.VaultBudget, "how many RSA-2048 operations a second one vault is asked for (default 200)"},
		{"replicas", &c.Replicas, "how many processes use the same database, and share what each vault may be asked"},
		{"affinity", &c.Affinity, "how many of those serve one tenant, where a load balancer keeps it together (default all)"},
		{"drain", &c.Drain, "for how long to go on serving once told to stop, until a load balancer has noticed (default 0s)"},
		{"vaults", &c.Vaults, "further host suffixes under which customers' keys may lie"},
		{"witness", &c.Witness, "the `FOLDER` or the object store's URL, out of reach of who restores databases, that knows how far they had come"},
		{"witness-credential", &c.WitnessCredential, "the `FILE` of the credential for that store, if it is not in the environment"},
		{"metrics", &c.Metrics, "serve Prometheus metrics on this loopback `ADDR`ess and port"},
		{"traces", &c.Traces, "post OpenTelemetry traces to this `URL`, such as https://collector.example.com:4318/v1/traces (default OTEL_EXPORTER_OTLP_ENDPOINT's; none)"},
		{"trust", &c.Trust, "`FILE`s of certificate authorities to trust beside the system's"},
	}
}

// variable returns the environment's name for a flag.
func variable(flag string) string {
	return "KLUIS_" + strings.ReplaceAll(strings.ToUpper(flag), "-", "_")
}

// addFlags declares the flags that a Config is read from.
func addFlags(f *pflag.FlagSet) {
	d := defaultConfig()
	for _, o := range d.options() {
		switch v := o.into.(type) {
		case *string:
			f.String(o.name, *v, o.usage)
		case *[]string:
			f.StringSlice(o.name, *v, o.usage)
		case *time.Duration:
			f.Duration(o.name, *v, o.usage)
		case *float64:
			f.Float64(o.name, *v, o.usage)
		case *int:
			f.Int(o.name, *v, o.usage)
		case *bool:
			f.Bool(o.name, *v, o.usage)
		}
	}
	f.StringArray("database", nil, "make a party's database on PostgreSQL: `PARTY=URL` (default embedded)")
	f.String("config", "", "read the configuration from `FILE` (YAML)")
}

// set gives the option what a flag or variable says.
func (o option) set(text string) error {
	switch v := o.into.(type) {
	case *string:
		*v = text
	case *[]string:
		*v = strings.FieldsFunc(text, func(r rune) bool { return r == ',' || r == ' ' })
	case *time.Duration:
		d, err := time.ParseDuration(text)
		if err != nil || d < 0 {
			return usageError{fmt.Errorf("%s is a length of time, such as 30s, not %q", o.name, text)}
		}
		*v = d
	case *float64:
		n, err := strconv.ParseFloat(text, 64)
		if err != nil || !(n >= 0 && n <= 1e6) {
			return usageError{fmt.Errorf("%s is a number, such as 200, not %q", o.name, text)}
		}
		*v = n
	case *int:
		n, err := strconv.Atoi(text)
		if err != nil || n < 0 {
			return usageError{fmt.Errorf("%s is a whole number, not %q", o.name, text)}
		}
		*v = n
	case *bool:
		switch text {
		case "true", "1":
			*v = true
		case "false", "0", "":
			*v = false
		default:
			return usageError{fmt.Errorf("%s is true or false, not %q", o.name, text)}
		}
	}
	return nil
}
