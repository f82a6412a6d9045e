package blob_test

import (
	"testing"

	"github.com/kluis-io/kluis/api/blob"
	"github.com/kluis-io/kluis/fault"
)

func FuzzServiceProperties(f *testing.F) {
	for _, s := range []string{
		"", "<StorageServiceProperties/>", "<StorageServiceProperties><Cors/></StorageServiceProperties>",
		"<StorageServiceProperties><Logging><Version>1.0</Version><Read>true</Read><RetentionPolicy><Enabled>true</Enabled><Days>5</Days></RetentionPolicy></Logging></StorageServiceProperties>",
		"<StorageServiceProperties><Cors><CorsRule><AllowedOrigins>a, *,</AllowedOrigins><AllowedMethods>GET</AllowedMethods><MaxAgeInSeconds>x</MaxAgeInSeconds></CorsRule></Cors></StorageServiceProperties>",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		change, err := blob.ParseServiceProperties(body)
		if err != nil {
			if fault.ReasonOf(err) != fault.InvalidArgument {
				t.Fatal(err)
			}
			return
		}
		if change.CORS == nil {
			return
		}
		for _, r := range *change.CORS {
			for _, list := range [][]string{r.Origins, r.Methods, r.Headers, r.Exposed} {
				for _, v := range list {
					if v == "" {
						t.Fatalf("an empty element in %q", list)
					}
				}
			}
		}
	})
}
