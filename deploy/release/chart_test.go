package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"strings"
	"testing"
	"text/template"

	"go.yaml.in/yaml/v3"
)

// The chart is rendered with stand-ins for the functions of Helm's that it uses, and
// gives Kubernetes' objects: what runs has no rights, and writes nowhere but to its
// volumes. Helm itself is not run.
func TestChart(t *testing.T) {
	text, err := os.ReadFile("../helm/kluis/templates/kluis.yaml")
	if err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile("../helm/kluis/values.yaml")
	if err != nil {
		t.Fatal(err)
	}
	toYAML := func(v any) string { b, _ := yaml.Marshal(v); return strings.TrimSuffix(string(b), "\n") }
	functions := template.FuncMap{
		"toYaml": toYAML,
		"toJson": func(v any) string { b, _ := json.Marshal(v); return string(b) },
		"quote":  func(v string) string { b, _ := json.Marshal(v); return string(b) },
		"indent": func(n int, s string) string {
			pad := strings.Repeat(" ", n)
			return pad + strings.ReplaceAll(s, "\n", "\n"+pad)
		},
		"dict": func(pairs ...any) map[string]any {
			m := map[string]any{}
			for i := 0; i < len(pairs); i += 2 {
				m[pairs[i].(string)] = pairs[i+1]
			}
			return m
		},
		"merge": func(to, from map[string]any) map[string]any { // what is there stays
			for k, v := range from {
				if _, ok := to[k]; !ok {
					to[k] = v
				}
			}
			return to
		},
	}
	chart, err := template.New("").Funcs(functions).Option("missingkey=error").Parse(string(text))
	if err != nil {
		t.Fatal(err)
	}
	for _, secret := range []string{"", "kluis-secrets"} {
		var values map[string]any
		if err := yaml.Unmarshal(raw, &values); err != nil {
			t.Fatal(err)
		}
		values["secret"], values["config"] = secret, map[string]any{"vaultBudget": 100}
		var out bytes.Buffer
		if err := chart.Execute(&out, map[string]any{"Values": values, "Release": map[string]any{"Name": "r"}}); err != nil {
			t.Fatal(err)
		}
		kinds := map[string]map[string]any{}
		for d := yaml.NewDecoder(&out); ; {
			var o map[string]any
			if err := d.Decode(&o); errors.Is(err, io.EOF) {
				break
			} else if err != nil {
				t.Fatal(err)
			}
			kinds[o["kind"].(string)] = o
		}
		for _, kind := range []string{"ConfigMap", "Service", "PodDisruptionBudget", "StatefulSet"} {
			if kinds[kind] == nil {
				t.Fatalf("no %s", kind)
			}
		}
		file := kinds["ConfigMap"]["data"].(map[string]any)["kluis.yaml"].(string)
		if !strings.Contains(file, "vaultBudget: 100") || !strings.Contains(file, "data: /data") {
			t.Errorf("the configuration is %q", file)
		}
		pod := kinds["StatefulSet"]["spec"].(map[string]any)["template"].(map[string]any)["spec"].(map[string]any)
		rights := pod["containers"].([]any)[0].(map[string]any)["securityContext"].(map[string]any)
		if rights["readOnlyRootFilesystem"] != true || rights["allowPrivilegeEscalation"] != false || pod["automountServiceAccountToken"] != false {
			t.Errorf("it may %v", rights)
		}
		if n := len(pod["volumes"].([]any)); n != 1 && secret == "" || n != 2 && secret != "" {
			t.Errorf("%d volumes with the secret %q", n, secret)
		}
	}
}
