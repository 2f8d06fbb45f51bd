package buildkit

import (
	"context"
	"slices"
	"time"

	controlapi "github.com/moby/buildkit/api/services/control"
	"github.com/moby/buildkit/client"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc"

	"github.com/berthd/berth/engine/build"
	"github.com/berthd/berth/engine/internal/errkind"
)

// policy is what automatic collection does: cheap things go first and soon, the rest when the cache is larger than its share.
func policy(o *Options) []client.PruneInfo {
	keep := o.KeepStorage
	if keep == 0 {
		var st unix.Statfs_t
		if err := unix.Statfs(o.Root, &st); err == nil {
			keep = int64(st.Blocks) * st.Bsize / 10
		}
	}
	return []client.PruneInfo{
		{Filter: []string{"type==source.local,type==exec.cachemount,type==source.git.checkout"}, KeepDuration: 48 * time.Hour, MaxUsedSpace: 512 << 20},
		{KeepDuration: 60 * 24 * time.Hour, MaxUsedSpace: keep},
		{MaxUsedSpace: keep},
		{All: true, MaxUsedSpace: keep},
	}
}

// Prune implements build.Builder.
func (b *Builder) Prune(ctx context.Context, o build.PruneOptions) (idsOut []string, bytes int64, err error) {
	if !b.used() {
		return nil, 0, nil
	}
	c, err := b.open(ctx)
	if err != nil {
		return nil, 0, err
	}
	s := &pruneStream{ctx: ctx}
	err = c.control.Prune(&controlapi.PruneRequest{
		All: o.All, KeepDuration: int64(o.Until), ReservedSpace: o.ReservedSpace, MaxUsedSpace: o.MaxUsedSpace, MinFreeSpace: o.MinFreeSpace, Filter: o.Filters,
	}, s)
	return s.ids, s.bytes, err
}

// pruneStream collects what a prune removed.
type pruneStream struct {
	grpc.ServerStream
	ctx   context.Context
	ids   []string
	bytes int64
}

func (s *pruneStream) Context() context.Context { return s.ctx }

func (s *pruneStream) Send(r *controlapi.UsageRecord) error {
	s.ids = append(s.ids, r.ID)
	s.bytes += r.Size
	return nil
}

// Usage implements build.Builder.
func (b *Builder) Usage(ctx context.Context) ([]build.Record, error) {
	if !b.used() {
		return nil, nil
	}
	c, err := b.open(ctx)
	if err != nil {
		return nil, err
	}
	resp, err := c.control.DiskUsage(ctx, &controlapi.DiskUsageRequest{})
	if err != nil {
		return nil, err
	}
	out := make([]build.Record, 0, len(resp.Record))
	for _, r := range resp.Record {
		rec := build.Record{
			ID: r.ID, Type: r.RecordType, Description: r.Description, Parents: r.Parents, InUse: r.InUse, Shared: r.Shared, Size: r.Size,
			Created: r.CreatedAt.AsTime(), UsageCount: int(r.UsageCount),
		}
		if r.LastUsedAt != nil {
			t := r.LastUsedAt.AsTime()
			rec.LastUsed = &t
		}
		out = append(out, rec)
	}
	return out, nil
}

// CacheFilters are the keys of prune filters that BuildKit understands. Source: BuildKit, cache disk usage filters.
var cacheFilters = []string{"id", "parents", "description", "inuse", "mutable", "immutable", "shared", "private", "type"}

// Filter makes one of PruneOptions.Filters.
func Filter(key, op, value string) (string, error) {
	if !slices.Contains(cacheFilters, key) {
		return "", errkind.InvalidArgument("invalid filter '%s'", key)
	}
	if value == "" {
		return key, nil
	}
	return key + op + value, nil
}
