package workspaces

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"

	"github.com/kluis-io/kluis/portal"
	"github.com/kluis-io/kluis/portal/client"
)

// preview shows what applying a key would meet, and changes nothing.
func preview(c *portal.Call) error {
	p, err := read(c)
	if err != nil {
		return err
	}
	p.Key, p.ReSeal = strings.TrimSpace(c.R.PostFormValue("key")), c.R.PostFormValue("reseal") != ""
	p.Preview = &client.Preview{}
	if err := c.Parties.Encryption(c.Context(), p.ID, "preview", map[string]string{"keyIdentifier": p.Key}, p.Preview); err != nil {
		p.Preview, p.Problem = nil, c.Explain(err)
	}
	if c.Partial() {
		return c.Fragment("workspaces/encryption", "preview", p)
	}
	p.Items = selectItems(c, p)
	return c.Render(p.view("encryption"))
}

func assign(c *portal.Call) error {
	id, key := c.R.PathValue("id"), strings.TrimSpace(c.R.PostFormValue("key"))
	body := map[string]any{"keyIdentifier": key, "reSealOnly": c.R.PostFormValue("reseal") != ""}
	if err := c.Parties.Encryption(c.Context(), id, "assign", body, nil); err != nil {
		p, e := read(c)
		if e != nil {
			return err
		}
		// The form keeps what was typed, and says why it was not taken.
		p.Key, p.ReSeal, p.Problem = key, body["reSealOnly"] == true, c.Explain(err)
		p.Items = selectItems(c, p)
		v := p.view("encryption")
		v.Status = p.Problem.Status
		return c.Render(v)
	}
	return c.Done(at(id), "The key is applied. Items are re-encrypted one after the other.")
}

func at(id string) string { return "/workspaces/" + id + "/encryption" }

// retry applies the key again that the workspace has: failed items are tried anew.
func retry(c *portal.Call) error {
	id := c.R.PathValue("id")
	e, err := c.Parties.WorkspaceEncryption(c.Context(), id)
	if err != nil {
		return err
	}
	if e.Detail.KeyIdentifier == "" {
		return &portal.Problem{Status: http.StatusConflict, Title: "There is nothing to retry", Detail: "The workspace is under no customer's key."}
	}
	if err := c.Parties.Encryption(c.Context(), id, "assign", map[string]string{"keyIdentifier": e.Detail.KeyIdentifier}, nil); err != nil {
		return err
	}
	return c.Done(at(id), "The failed items are tried again.")
}

func confirmReset(c *portal.Call) error {
	p, err := read(c)
	if err != nil {
		return err
	}
	return c.Render(p.view("reset", portal.Crumb{Title: "Encryption", Path: at(p.ID)}, portal.Crumb{Title: "Reset"}))
}

// typed reports whether the form holds the workspace's name, which is asked for before
// what cannot be undone at once.
func typed(c *portal.Call) error {
	w, err := c.Parties.Workspace(c.Context(), c.R.PathValue("id"))
	if err != nil {
		return err
	}
	if strings.TrimSpace(c.R.PostFormValue("name")) != w.DisplayName {
		return &portal.Problem{Status: http.StatusBadRequest, Title: "Nothing was done", Detail: "What was typed is not the workspace's name.",
			Mend: fmt.Sprintf("Go back and type %q to go on.", w.DisplayName)}
	}
	return nil
}

func reset(c *portal.Call) error {
	if err := typed(c); err != nil {
		return err
	}
	id := c.R.PathValue("id")
	if err := c.Parties.Encryption(c.Context(), id, "reset", nil, nil); err != nil {
		return err
	}
	return c.Done(at(id), "The workspace goes back to platform-managed keys.")
}

func rotate(c *portal.Call) error {
	id := c.R.PathValue("id")
	if err := c.Parties.Encryption(c.Context(), id, "rotate", nil, nil); err != nil {
		return err
	}
	return c.Done(at(id), "A deep rotation has begun: everything is re-encrypted under a new scope key.")
}

func revalidate(c *portal.Call) error {
	id := c.R.PathValue("id")
	if err := c.Parties.Encryption(c.Context(), id, "revalidate", nil, nil); err != nil {
		return err
	}
	return c.Done(at(id), "The vault was asked again, and said yes.")
}

func setBound(c *portal.Call) error {
	id := c.R.PathValue("id")
	n, err := strconv.ParseInt(strings.TrimSpace(c.R.PostFormValue("seconds")), 10, 64)
	if c.R.PostFormValue("seconds") == "" {
		n, err = 0, nil
	}
	if err != nil {
		return &portal.Problem{Status: http.StatusBadRequest, Title: "Nothing was changed", Detail: "The bound is a whole number of seconds."}
	}
	if err := c.Parties.PutEncryption(c.Context(), id, "killSwitchBound", map[string]int64{"seconds": n}); err != nil {
		return err
	}
	return c.Done(at(id), "The kill-switch bound is set.")
}

func confirmLost(c *portal.Call) error {
	p, err := read(c)
	if err != nil {
		return err
	}
	return c.Render(p.view("lost", portal.Crumb{Title: "Encryption", Path: at(p.ID)}, portal.Crumb{Title: "Key lost"}))
}

func declareLost(c *portal.Call) error {
	id, lost := c.R.PathValue("id"), c.R.PostFormValue("lost") == "true"
	if lost {
		if err := typed(c); err != nil {
			return err
		}
	}
	if err := c.Parties.PutEncryption(c.Context(), id, "keyLost", map[string]bool{"lost": lost}); err != nil {
		return err
	}
	if lost {
		return c.Done(at(id), "The key is declared lost. Items can be deleted without it.")
	}
	return c.Done(at(id), "The key is no longer declared lost.")
}

// coverage shows item by item what the key covers, and what it does not.
func coverage(c *portal.Call) error {
	p, err := read(c)
	if err != nil {
		return err
	}
	d := struct {
		pane
		Coverage client.Coverage
	}{pane: p}
	if d.Coverage, err = c.Parties.Coverage(c.Context(), p.ID); err != nil {
		return err
	}
	v := p.view("coverage", portal.Crumb{Title: "Encryption", Path: at(p.ID)}, portal.Crumb{Title: "Coverage"})
	v.Data = d
	return c.Render(v)
}

// impact shows which workspaces go dark with the workspace's key.
func impact(c *portal.Call) error {
	p, err := read(c)
	if err != nil {
		return err
	}
	d := struct {
		pane
		Impact client.Impact
	}{pane: p}
	if p.E.Detail.KeyIdentifier != "" {
		if d.Impact, err = c.Parties.Impact(c.Context(), p.E.Detail.KeyIdentifier); err != nil {
			return err
		}
	}
	v := p.view("impact", portal.Crumb{Title: "Encryption", Path: at(p.ID)}, portal.Crumb{Title: "Impact"})
	v.Data = d
	return c.Render(v)
}
