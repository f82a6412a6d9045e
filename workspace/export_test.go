package workspace

// SetBatch sets how many entries one transaction re-seals.
func (w *Workspaces) SetBatch(n int) { w.batch = n }

// OpenFolders returns how many folders' keys are open.
func (w *Workspaces) OpenFolders() int {
	w.folders.mu.Lock()
	defer w.folders.mu.Unlock()
	return len(w.folders.open)
}
