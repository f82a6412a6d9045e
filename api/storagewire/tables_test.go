package storagewire_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/to"
	"github.com/Azure/azure-sdk-for-go/sdk/storage/azblob"
	azblobblob "github.com/Azure/azure-sdk-for-go/sdk/storage/azblob/blob"
)

// Eight writers commit to one table's log as Delta's do: each reads which version
// is the last, and creates the next one unless somebody else has. Every commit is
// there afterwards, once, and the versions have no gap.
func TestDeltaCommits(t *testing.T) {
	const writers, each = 8, 12
	e := endpoints(t)[0]
	e.client.Retry = policy.RetryOptions{MaxRetries: 5, RetryDelay: 50 * time.Millisecond} // as clients have it
	ctx := t.Context()
	log := "L.Lakehouse/Tables/t/_delta_log/"
	name := func(version int) string { return fmt.Sprintf("%s%020d.json", log, version) }
	type commit struct{ Writer, Number int }
	work := func(writer int) error {
		c, err := azblob.NewClient(e.blob, credential("good"), &azblob.ClientOptions{ClientOptions: e.client})
		if err != nil {
			return err
		}
		last := -1
		for n := range each {
			for done := false; !done; {
				// What is new since the last version that this writer knows of.
				options := &azblob.ListBlobsFlatOptions{Prefix: &log}
				for p := c.NewListBlobsFlatPager("ws", options); p.More(); {
					page, err := p.NextPage(ctx)
					if err != nil {
						return err
					}
					for _, b := range page.Segment.BlobItems {
						v, err := strconv.Atoi(strings.TrimSuffix(strings.TrimPrefix(*b.Name, log), ".json"))
						if err != nil {
							return err
						}
						last = max(last, v)
					}
				}
				text, err := json.Marshal(commit{writer, n})
				if err != nil {
					return err
				}
				_, err = c.UploadBuffer(ctx, "ws", name(last+1), text, &azblob.UploadBufferOptions{AccessConditions: &azblobblob.AccessConditions{
					ModifiedAccessConditions: &azblobblob.ModifiedAccessConditions{IfNoneMatch: to.Ptr(azcore.ETagAny)},
				}})
				var refused *azcore.ResponseError
				switch {
				case err == nil:
					done = true
				case errors.As(err, &refused) && refused.StatusCode == http.StatusConflict && refused.ErrorCode == "BlobAlreadyExists":
				default:
					return err
				}
			}
		}
		return nil
	}
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			if err := work(w); err != nil {
				t.Errorf("writer %d: %v", w, err)
			}
		})
	}
	wg.Wait()
	c := blobClient(t, e)
	seen := map[commit]int{}
	for v := range writers * each {
		var got commit
		text := must(io.ReadAll(must(c.DownloadStream(ctx, "ws", name(v), nil))(t).Body))(t)
		if err := json.Unmarshal(text, &got); err != nil {
			t.Fatal(err)
		}
		if was, twice := seen[got]; twice {
			t.Errorf("%+v is in versions %d and %d", got, was, v)
		}
		seen[got] = v
	}
	if len(seen) != writers*each {
		t.Errorf("%d commits, want %d", len(seen), writers*each)
	}
	_, err := c.DownloadStream(ctx, "ws", name(writers*each), nil)
	wantCode(t, err, 404, "BlobNotFound")
}
