package spark_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/kluis-io/kluis/workspace/spark"
)

func TestSamples(t *testing.T) {
	const h, b, u = spark.Holds, spark.Broken, spark.Unknown
	for name, want := range map[string][]spark.Verdict{
		"good.conf":     {h, h, h, u, h, h}, // a properties file does not tell the version
		"bad.conf":      {b, b, b, u, u, b},
		"good.eventlog": {h, h, h, h, h, h},
		"old.eventlog":  {h, h, h, b, h, u},
	} {
		f, err := os.Open(filepath.Join("testdata", name))
		if err != nil {
			t.Fatal(err)
		}
		c, err := spark.Read(f)
		f.Close()
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		var got []spark.Verdict
		all := spark.Check(c)
		for _, r := range all {
			got = append(got, r.Verdict)
			if !strings.HasPrefix(r.Source, "https://spark.apache.org/") || r.Found == "" || (r.Mend == "") != (r.Verdict == h) {
				t.Errorf("%s: %+v", name, r)
			}
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("%s (-want +got):\n%s", name, d)
		}
		if spark.Sound(all) != (name == "good.eventlog") || c.Ran != strings.HasSuffix(name, "log") {
			t.Errorf("%s: sound %t, ran %t", name, spark.Sound(all), c.Ran)
		}
	}
}

func TestReadProperties(t *testing.T) {
	c, err := spark.ReadProperties(strings.NewReader("\n  spark.a = 1 \r\nspark.b:2\nspark.c 3 4\nspark.d\\:e\\ f=5\nother=6\nspark.g=a\\\n  b\nspark.h\n#spark.i=1\nspark.j=\\\\\nspark.a=7"))
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{
		"spark.a": "7", "spark.b": "2", "spark.c": "3 4", "spark.d:e f": "5", "spark.g": "ab", "spark.h": "", "spark.j": `\`,
	}
	if d := cmp.Diff(want, c.Properties); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

func TestUnreadable(t *testing.T) {
	for _, text := range []string{
		"", " \n", "\x28\xb5\x2f\xfd\x00compressed", `{"Event":"SparkListenerLogStart","Spark Version":"3.5.1"}`,
		`{"Event":"SparkListenerEnvironmentUpdate","Spark Properties":[1]}`,
	} {
		if c, err := spark.Read(strings.NewReader(text)); err == nil {
			t.Errorf("%q was read as %+v", text, c)
		}
	}
	for _, version := range []string{"4", "x.y.z", "2.3"} {
		for _, r := range spark.Check(spark.Configuration{Version: version}) {
			if strings.Contains(r.Rule, "version") && r.Verdict == spark.Holds && version != "4" {
				t.Errorf("version %q holds", version)
			}
		}
	}
	weak := spark.Configuration{Version: "3.1.2", Properties: map[string]string{"spark.network.crypto.enabled": "true", "spark.authenticate": "true"}}
	if r := spark.Check(weak)[2]; r.Verdict != spark.Broken {
		t.Errorf("%+v", r)
	}
	// What Spark cannot read is not taken for yes.
	c := spark.Configuration{Properties: map[string]string{"spark.io.encryption.enabled": "yes"}}
	if r := spark.Check(c)[0]; r.Verdict != spark.Broken {
		t.Errorf("%+v", r)
	}
}

func FuzzRead(f *testing.F) {
	for _, name := range []string{"good.conf", "bad.conf", "good.eventlog", "old.eventlog"} {
		text, err := os.ReadFile(filepath.Join("testdata", name))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		c, err := spark.Read(bytes.NewReader(text))
		if err != nil {
			return
		}
		for k := range c.Properties {
			if !strings.HasPrefix(k, "spark.") {
				t.Errorf("the key %q", k)
			}
		}
		if n := len(spark.Check(c)); n != 6 {
			t.Errorf("%d results", n)
		}
	})
}
