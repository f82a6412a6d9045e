// Package spark reads what Spark was configured with, and says whether that makes
// it encrypt the scratch space that it keeps outside of any workspace: shuffle
// files, spills, and cached or broadcast blocks on executors' local disks.
//
// It reads properties files and event logs, and judges them by a list of settings,
// each with its source. It runs no Spark, and what it says is about the
// configuration read: a properties file can still be overruled by whoever submits
// the application, an event log tells what an application ran with.
package spark

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// A Configuration is what was read: the properties of one application, or of those
// that are yet to be submitted.
type Configuration struct {
	Properties map[string]string // "spark.…" only
	Version    string            // of Spark; "" if what was read does not tell
	Ran        bool              // from an event log: an application ran with it
}

// A Verdict says whether a rule holds.
type Verdict string

// The verdicts.
const (
	Holds   Verdict = "holds"
	Broken  Verdict = "broken"
	Unknown Verdict = "unknown" // what was read does not tell; look elsewhere
)

// A Result is what became of one rule.
type Result struct {
	Rule    string  `json:"rule"`
	Verdict Verdict `json:"verdict"`
	Found   string  `json:"found"`          // what the configuration says
	Mend    string  `json:"mend,omitempty"` // if it is not as it should be
	Source  string  `json:"source"`         // who says that it should be so
}

// The sources of the rules.
const (
	storage = "https://spark.apache.org/docs/latest/security.html#local-storage-encryption"
	network = "https://spark.apache.org/docs/latest/security.html#network-encryption"
	general = "https://spark.apache.org/docs/latest/configuration.html#shuffle-behavior"
	events  = "https://spark.apache.org/docs/latest/monitoring.html#viewing-after-the-fact"
	cve     = "https://spark.apache.org/security.html#CVE-2019-10099"
)

// A rule judges one thing about a configuration.
type rule struct {
	name   string
	source string
	mend   string
	judge  func(Configuration) (Verdict, string)
}

// rules are all that must hold for scratch space to be encrypted, in the order in
// which to mend them.
var rules = []rule{
	{
		name: "scratch space is encrypted", source: storage, mend: "Set spark.io.encryption.enabled to true.",
		judge: func(c Configuration) (Verdict, string) { return c.is("spark.io.encryption.enabled", false) },
	},
	{
		name: "its keys have 256 bits", source: storage, mend: "Set spark.io.encryption.keySizeBits to 256.",
		judge: func(c Configuration) (Verdict, string) {
			const key = "spark.io.encryption.keySizeBits"
			v, ok := c.Properties[key]
			if !ok {
				return Broken, key + " is not set, and 128 by default"
			}
			return held(v == "256"), key + " is " + v
		},
	},
	{
		// Executors get the key over RPC, so what can be read there opens the disk.
		name: "the keys travel encrypted", source: network,
		mend: "Set spark.authenticate and spark.network.crypto.enabled to true, with Spark 3.1.3 or later; or from Spark 4 on spark.ssl.rpc.enabled.",
		judge: func(c Configuration) (Verdict, string) {
			if v, found := c.is("spark.ssl.rpc.enabled", false); v == Holds {
				return v, found
			}
			if v, found := c.is("spark.network.crypto.enabled", false); v != Holds {
				return v, found
			}
			v, found := c.is("spark.authenticate", false)
			// Before 3.1.3 who had joined in once could recover the keys: CVE-2021-38296.
			if ok, err := atLeast(c.Version, 3, 1, 3); v == Holds && err == nil && !ok {
				return Broken, "spark.network.crypto of Spark " + c.Version + " lets its keys be recovered (CVE-2021-38296)"
			}
			return v, found
		},
	},
	{
		name: "Spark's version encrypts all of its scratch space", source: cve, mend: "Use Spark 2.3.3 or later.",
		judge: func(c Configuration) (Verdict, string) {
			if c.Version == "" {
				return Unknown, "the version is not told; an event log tells it"
			}
			ok, err := atLeast(c.Version, 2, 3, 3)
			if err != nil {
				return Unknown, "Spark " + c.Version + ": " + err.Error()
			}
			return held(ok), "Spark " + c.Version
		},
	},
	{
		// Another shuffle manager writes elsewhere and in its own way.
		name: "Spark itself keeps the shuffle", source: general,
		mend: "Leave spark.shuffle.manager unset, or see in the shuffle service's own documentation how it encrypts.",
		judge: func(c Configuration) (Verdict, string) {
			const key = "spark.shuffle.manager"
			switch v := c.Properties[key]; v {
			case "", "sort", "tungsten-sort", "org.apache.spark.shuffle.sort.SortShuffleManager":
				return Holds, key + " is Spark's own"
			default:
				return Unknown, key + " is " + v + ", which this check does not know"
			}
		},
	},
	{
		// Event logs hold queries with their literals, and are not scratch space.
		name: "event logs go where their reader's key protects them", source: events,
		mend: "Set spark.eventLog.dir to a folder in a workspace that is under the same key, such as abfss://…@onelake.dfs.…, or spark.eventLog.enabled to false.",
		judge: func(c Configuration) (Verdict, string) {
			if v, _ := c.is("spark.eventLog.enabled", false); v != Holds {
				return Holds, "spark.eventLog.enabled is not set"
			}
			dir := c.Properties["spark.eventLog.dir"]
			switch scheme, _, ok := strings.Cut(dir, "://"); {
			case !ok || scheme == "file":
				return Broken, fmt.Sprintf("spark.eventLog.dir is %q, a local folder", dir)
			case scheme == "abfss":
				return Holds, "spark.eventLog.dir is at " + scheme
			default:
				return Unknown, "spark.eventLog.dir is at " + scheme
			}
		},
	},
}

// Check judges a configuration by every rule.
func Check(c Configuration) []Result {
	var all []Result
	for _, r := range rules {
		v, found := r.judge(c)
		one := Result{Rule: r.name, Verdict: v, Found: found, Source: r.source}
		if v != Holds {
			one.Mend = r.mend
		}
		all = append(all, one)
	}
	return all
}

// Sound reports whether every rule holds.
func Sound(all []Result) bool {
	return !slices.ContainsFunc(all, func(r Result) bool { return r.Verdict != Holds })
}

// is judges a switch, which Spark reads as Scala's toBoolean does: true and false in
// any case, and nothing else.
func (c Configuration) is(key string, byDefault bool) (Verdict, string) {
	v, ok := c.Properties[key]
	if !ok {
		return held(byDefault), fmt.Sprintf("%s is not set, and %t by default", key, byDefault)
	}
	switch strings.ToLower(strings.TrimSpace(v)) {
	case "true":
		return Holds, key + " is true"
	case "false":
		return Broken, key + " is false"
	}
	return Broken, fmt.Sprintf("%s is %q, which Spark does not start with", key, v)
}

func held(ok bool) Verdict {
	if ok {
		return Holds
	}
	return Broken
}

// atLeast reports whether a version is one or a later one. What follows a hyphen or a
// fourth dot, as vendors add it, does not count.
func atLeast(version string, want ...int) (bool, error) {
	text, _, _ := strings.Cut(version, "-")
	parts := strings.Split(text, ".")
	for i, w := range want {
		if i >= len(parts) {
			return false, fmt.Errorf("this is no version of three numbers")
		}
		n, err := strconv.ParseUint(parts[i], 10, 31)
		if err != nil {
			return false, fmt.Errorf("this is no version of three numbers")
		}
		if int(n) != w {
			return int(n) > w, nil
		}
	}
	return true, nil
}
