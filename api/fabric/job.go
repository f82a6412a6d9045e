package fabric

import (
	"io"
	"net/http"
	"time"

	"github.com/kluis-io/kluis/fault"
	"github.com/kluis-io/kluis/workspace"
)

type jobInstance struct {
	ID       string     `json:"id"`
	ItemID   string     `json:"itemId"`
	Type     string     `json:"jobType"`
	Invoked  string     `json:"invokeType"`
	Status   string     `json:"status"`
	Activity string     `json:"rootActivityId"`
	Started  time.Time  `json:"startTimeUtc"`
	Ended    *time.Time `json:"endTimeUtc"`
}

func toJob(j workspace.Job) jobInstance {
	return jobInstance{
		ID: string(j.ID), ItemID: string(j.Item), Type: j.Type, Invoked: j.Invoked, Status: string(j.Status),
		Activity: string(j.ID), Started: j.Started, Ended: given(j.Ended),
	}
}

// instances is the segment that runs lie under, beside the types of jobs.
const instances = "instances"

// start answers 202 with where the run is. kluis runs nothing itself.
func (c *call) start(jobType string) error {
	ws, item, err := c.item()
	if err != nil {
		return err
	}
	j, err := c.ws.StartJob(c.r.Context(), c.caller, ws, item, jobType)
	if err != nil {
		return err
	}
	c.w.Header().Set("Location", c.url("/v1/workspaces/"+string(ws)+"/items/"+string(item)+"/jobs/instances/"+string(j.ID)))
	c.w.Header().Set("Retry-After", retryAfter)
	c.w.WriteHeader(http.StatusAccepted)
	return nil
}

// startJob takes the job's type in the path, and startNamedJob in the query, as
// Fabric's older form does.
func (c *call) startJob() error {
	if c.r.PathValue("j") != instances {
		return fault.New(fault.NotFound, "There is no such operation.")
	}
	return c.start(c.r.PathValue("t"))
}

func (c *call) startNamedJob() error { return c.start(c.r.URL.Query().Get("jobType")) }

func (c *call) listJobs() error {
	ws, item, err := c.item()
	if err != nil {
		return err
	}
	listing := "jobs " + string(item)
	after, err := c.after(listing)
	if err != nil {
		return err
	}
	all, more, err := c.ws.Jobs(c.r.Context(), c.caller, ws, item, workspace.JobID(after), c.config.PageSize)
	if err != nil {
		return err
	}
	p := page[jobInstance]{Value: []jobInstance{}}
	for _, j := range all {
		p.Value = append(p.Value, toJob(j))
	}
	if more {
		p.paging = c.next(listing, string(all[len(all)-1].ID))
	}
	return c.answer(http.StatusOK, p)
}

// job returns the id of the path's run.
func (c *call) job() (workspace.JobID, error) {
	if t := c.r.PathValue("t"); t != "" && t != instances {
		return "", fault.New(fault.NotFound, "There is no such operation.")
	}
	id, err := c.id("j", fault.NotFound)
	return workspace.JobID(id), err
}

func (c *call) getJob() error {
	ws, item, err := c.item()
	if err != nil {
		return err
	}
	id, err := c.job()
	if err != nil {
		return err
	}
	j, err := c.ws.Job(c.r.Context(), c.caller, ws, item, id)
	if err != nil {
		return err
	}
	return c.answer(http.StatusOK, toJob(j))
}

// setJob says how far a run is; a call of ours, for whoever runs it, but for
// cancelling.
func (c *call) setJob(s workspace.JobStatus) (workspace.Job, error) {
	ws, item, err := c.item()
	if err != nil {
		return workspace.Job{}, err
	}
	id, err := c.job()
	if err != nil {
		return workspace.Job{}, err
	}
	return c.ws.SetJobStatus(c.r.Context(), c.caller, ws, item, id, s)
}

func (c *call) updateJob() error {
	var body struct {
		Status string `json:"status"`
	}
	if err := c.read(bodyLimit, &body); err != nil {
		return err
	}
	j, err := c.setJob(workspace.JobStatus(body.Status))
	if err != nil {
		return err
	}
	return c.answer(http.StatusOK, toJob(j))
}

func (c *call) cancelJob() error {
	if _, err := c.setJob(workspace.JobCancelled); err != nil {
		return err
	}
	c.w.WriteHeader(http.StatusAccepted)
	return nil
}

// getJobLog and appendJobLog are calls of ours: a run's log as plain text, sealed
// at rest under the item's key.
func (c *call) getJobLog() error {
	ws, item, err := c.item()
	if err != nil {
		return err
	}
	id, err := c.job()
	if err != nil {
		return err
	}
	text, err := c.ws.JobLog(c.r.Context(), c.caller, ws, item, id)
	if err != nil {
		return err
	}
	c.w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	c.w.Header().Set("X-Content-Type-Options", "nosniff")
	c.w.Write(text)
	return nil
}

func (c *call) appendJobLog() error {
	ws, item, err := c.item()
	if err != nil {
		return err
	}
	id, err := c.job()
	if err != nil {
		return err
	}
	piece, err := io.ReadAll(http.MaxBytesReader(nil, c.r.Body, workspace.MaxLogPiece))
	if err != nil {
		return fault.Wrap(fault.PayloadTooLarge, err, "A piece of a log is at most 1 MiB.")
	}
	return c.done(c.ws.AppendJobLog(c.r.Context(), c.caller, ws, item, id, piece))
}
