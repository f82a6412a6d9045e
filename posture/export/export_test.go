package export_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/posture"
	"github.com/kluis-io/kluis/posture/export"
)

const one = `{"id":"/subscriptions/s/resourceGroups/g/providers/Microsoft.DocumentDB/databaseAccounts/c","keyVaultKeyUri":"https://v.vault.azure.net/keys/k"}`

func TestRead(t *testing.T) {
	for _, tt := range []struct {
		name, text string
		resources  int
		gaps       int
		fails      bool
	}{
		{name: "an object", text: one, resources: 1},
		{name: "with a byte order mark", text: "\xef\xbb\xbf" + one, resources: 1},
		{name: "an array", text: "[" + one + "]", resources: 1},
		{name: "an answer that lists", text: `{"value":[` + one + `]}`, resources: 1},
		{name: "the same, cut off", text: `{"value":[` + one + `],"nextLink":"https://x"}`, resources: 1, gaps: 1},
		{name: "Resource Graph, cut off", text: `{"data":[` + one + `],"$skipToken":"x"}`, resources: 1, gaps: 1},
		{name: "a value that is no list", text: `{"value":{"a":1},"id":"x"}`},
		{name: "something else", text: `["a",1,null,{"id":"x"}]`},
		{name: "nothing", text: ``, fails: true},
		{name: "half", text: one[:40], fails: true},
		{name: "half a list", text: `[` + one, fails: true},
		{name: "two values", text: one + one, fails: true},
		{name: "a text", text: `"a"`, fails: true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			inv := &posture.Inventory{}
			err := export.Read(t.Context(), fstest.MapFS{"d/a.json": {Data: []byte(tt.text)}, "readme.txt": {Data: []byte("no")}}, inv)
			if (err != nil) != tt.fails {
				t.Fatal(err)
			}
			if err != nil && (!errors.Is(err, fault.InvalidArgument) || !strings.Contains(err.Error(), "d/a.json")) {
				t.Errorf("%v does not name the file", err)
			}
			if len(inv.Resources) != tt.resources || len(inv.Gaps) != tt.gaps {
				t.Errorf("%d resources, gaps %v", len(inv.Resources), inv.Gaps)
			}
		})
	}
}

func TestCancelled(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := export.Read(ctx, fstest.MapFS{"a.json": {Data: []byte(one)}}, &posture.Inventory{}); err == nil {
		t.Error("no error")
	}
}

func FuzzRead(f *testing.F) {
	f.Add([]byte(one))
	f.Add([]byte(`{"value":[{"id":"/a/providers/b/c/d","type":"x","resources":[{"type":"keys","name":"k"}]}]}`))
	f.Add([]byte(`{"key":{"kid":"https://v/keys/k"},"attributes":[]}`))
	f.Add([]byte(`{"id":"/providers/Microsoft.Compute/virtualMachines/m","properties":{"storageProfile":{"osDisk":[{}]}}}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		inv := &posture.Inventory{}
		if export.Read(t.Context(), fstest.MapFS{"a.json": {Data: text}}, inv) == nil {
			inv.Link()
			posture.Judge(inv, nil, nil, fstest.MapFile{}.ModTime)
		}
	})
}
