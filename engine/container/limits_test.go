package container

import (
	"reflect"
	"strings"
	"testing"

	"github.com/berthd/berth/engine/internal/host"
)

func ptr[T any](v T) *T { return &v }

var fullHost = host.Facts{
	Memory: true, Swap: true, MemoryReservation: true, OomKillDisable: true, Swappiness: true, CPUShares: true, CPUQuota: true, Cpuset: true, Pids: true,
	BlkioWeight: true, BlkioWeightDevice: true, BlkioReadBps: true, BlkioWriteBps: true, BlkioReadIOps: true, BlkioWriteIOps: true, CPUs: "0-3,6", Mems: "0", NumCPU: 5,
}

func TestLimitsRefused(t *testing.T) {
	for _, tc := range []struct {
		r    Resources
		want string
	}{
		{Resources{Memory: 1000}, "Minimum memory limit allowed is 6MB"},
		{Resources{Memory: -1}, "Minimum memory limit allowed is 6MB"},
		{Resources{MemorySwap: 1 << 30}, "You should always set the Memory limit when using Memoryswap limit"},
		{Resources{Memory: 1 << 30, MemorySwap: 1 << 20}, "Minimum memoryswap limit should be larger than memory limit"},
		{Resources{MemorySwappiness: ptr(int64(101))}, "Invalid value: 101, valid memory swappiness range is 0-100"},
		{Resources{MemoryReservation: 1}, "Minimum memory reservation allowed is 6MB"},
		{Resources{Memory: 1 << 26, MemoryReservation: 1 << 27}, "can not be less than memory reservation limit"},
		{Resources{NanoCPUs: 6e9}, "range of CPUs is from 0.01 to 5.00, as there are only 5 CPUs available"},
		{Resources{NanoCPUs: -1}, "range of CPUs is from 0.01 to 5.00"},
		{Resources{NanoCPUs: 1e9, CPUPeriod: 5000}, "Nano CPUs and CPU Period cannot both be set"},
		{Resources{NanoCPUs: 1e9, CPUQuota: 5000}, "Nano CPUs and CPU Quota cannot both be set"},
		{Resources{CPUQuota: 10}, "CPU cfs quota can not be less than 1ms"},
		{Resources{CPUPeriod: 10}, "CPU cfs period can not be less than 1ms"},
		{Resources{CPUPeriod: 1e7}, "CPU cfs period can not be less than 1ms"},
		{Resources{CPUShares: -1}, "invalid CPU shares (-1)"},
		{Resources{CpusetCpus: "a-b"}, "Invalid value a-b for cpuset cpus: invalid format: a-b"},
		{Resources{CpusetCpus: "0-9999"}, "maximum is 8191"},
		{Resources{CpusetCpus: "4"}, "Requested CPUs are not available - requested 4, available: 0-3,6"},
		{Resources{CpusetMems: "9"}, "Requested memory nodes are not available - requested 9, available: 0"},
		{Resources{BlkioWeight: 5}, "Range of blkio weight is from 10 to 1000"},
	} {
		_, err := checkLimits(&tc.r, fullHost, false)
		if err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%+v: %v, want %q", tc.r, err, tc.want)
		}
	}
}

func TestLimitsTaken(t *testing.T) {
	r := Resources{
		Memory: 1 << 26, MemorySwap: -1, MemoryReservation: 1 << 25, MemorySwappiness: ptr(int64(-1)), KernelMemory: 1, OomKillDisable: ptr(true), NanoCPUs: 15e8, CPUShares: 2,
		CpusetCpus: "0-1,6", CpusetMems: "0", BlkioWeight: 10, PidsLimit: ptr(int64(5)),
	}
	want := r
	want.KernelMemory, want.MemorySwappiness = 0, nil
	w, err := checkLimits(&r, fullHost, false)
	if err != nil || w != nil || !reflect.DeepEqual(r, want) {
		t.Errorf("%v %v\ngot  %+v\nwant %+v", w, err, r, want)
	}
	if _, err := checkLimits(&Resources{MemorySwap: 1 << 30}, fullHost, true); err != nil {
		t.Errorf("an update may set the swap limit alone: %v", err)
	}
}

func TestLimitsDiscarded(t *testing.T) {
	r := Resources{
		Memory: 1 << 26, MemoryReservation: 1 << 25, MemorySwappiness: ptr(int64(3)), OomKillDisable: ptr(true), PidsLimit: ptr(int64(3)), CPUShares: 1, CPUQuota: 5000, CPUPercent: 1,
		CpusetCpus: "0", BlkioWeight: 10, BlkioWeightDevice: []WeightDevice{{}}, BlkioDeviceReadBps: []ThrottleDevice{{}}, BlkioDeviceWriteIOps: []ThrottleDevice{{}},
	}
	w, err := checkLimits(&r, host.Facts{NumCPU: 1}, false)
	if err != nil || len(w) != 13 {
		t.Errorf("%d warnings, %v:\n%s", len(w), err, strings.Join(w, "\n"))
	}
	want := Resources{MemorySwap: -1, BlkioWeightDevice: []WeightDevice{}, BlkioDeviceReadBps: []ThrottleDevice{}, BlkioDeviceWriteIOps: []ThrottleDevice{}}
	if !reflect.DeepEqual(r, want) {
		t.Errorf("got  %+v\nwant %+v", r, want)
	}
}
