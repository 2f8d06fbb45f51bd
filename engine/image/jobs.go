package image

import (
	"context"
	"sync"
)

// jobs lets those who ask for the same thing share the work. It is cancelled when the last of them leaves.
type jobs struct {
	mu  sync.Mutex
	all map[string]*job
}

// job is work with an audience. Rows are kept, so that who comes later sees everything.
type job struct {
	cancel context.CancelFunc
	done   chan struct{} // closed after err is set
	err    error

	mu      sync.Mutex
	rows    []Progress
	more    chan struct{} // closed and replaced with every row
	waiting int           // guarded by jobs.mu
	left    bool          // everybody left; guarded by jobs.mu
}

// do runs work under a key, or joins the one that runs. progress is called on the caller's goroutine.
func (j *jobs) do(ctx context.Context, key string, progress ProgressFunc, work func(context.Context, ProgressFunc) error) error {
	for {
		j.mu.Lock()
		if j.all == nil {
			j.all = map[string]*job{}
		}
		k := j.all[key]
		if k != nil && k.left { // it is on its way out; its effects must be over first
			j.mu.Unlock()
			select {
			case <-k.done:
				continue
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		}
		if k == nil {
			run, cancel := context.WithCancel(context.WithoutCancel(ctx))
			k = &job{cancel: cancel, done: make(chan struct{}), more: make(chan struct{})}
			j.all[key] = k
			go func() {
				defer cancel()
				k.err = work(run, k.row)
				j.mu.Lock()
				delete(j.all, key)
				j.mu.Unlock()
				close(k.done)
			}()
		}
		k.waiting++
		j.mu.Unlock()
		return j.watch(ctx, k, progress)
	}
}

// watch hands on rows until the work is done.
func (j *jobs) watch(ctx context.Context, k *job, progress ProgressFunc) error {
	shown := 0
	for {
		k.mu.Lock()
		rows, more := k.rows[shown:], k.more
		k.mu.Unlock()
		for _, r := range rows {
			progress(r)
		}
		shown += len(rows)
		if len(rows) > 0 {
			continue
		}
		select {
		case <-more:
		case <-k.done:
			k.mu.Lock()
			rest := k.rows[shown:]
			k.mu.Unlock()
			for _, r := range rest {
				progress(r)
			}
			return k.err
		case <-ctx.Done():
			j.leave(k)
			return context.Cause(ctx)
		}
	}
}

// leave ends the work when nobody waits for it any more, and returns when it has ended then.
func (j *jobs) leave(k *job) {
	j.mu.Lock()
	k.waiting--
	last := k.waiting == 0
	k.left = k.left || last
	j.mu.Unlock()
	if last {
		k.cancel()
		<-k.done
	}
}

func (k *job) row(r Progress) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.rows = append(k.rows, r)
	close(k.more)
	k.more = make(chan struct{})
}
