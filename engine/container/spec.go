package container

import (
	"time"

	"github.com/berthd/berth/engine/network"
)

// Words with a meaning of their own.
const (
	joinPrefix     = "container:" // of a mode that shares a namespace
	hostGateway    = "host-gateway"
	builtinRuntime = "runc" // the runtime that is part of the shim
)

// ID of a container: 64 lowercase hex digits.
type ID string

// Spec is what the user asked for, merged with the image's configuration. Immutable after Create, except what Update and
// Rename may change. It has no wire names and no OCI names, but it keeps every list and map as it was given: nil stays
// nil and empty stays empty, because inspect echoes them and clients compare.
type Spec struct {
	Image       ImageRef          `json:"image"`
	Platform    string            `json:"platform"` // os/arch[/variant] asked for; "" = host's
	Process     Process           `json:"process"`
	Hostname    string            `json:"hostname"`
	Domainname  string            `json:"domainname"`
	Namespaces  Namespaces        `json:"namespaces"`
	Resources   Resources         `json:"resources"`
	Security    Security          `json:"security"`
	Storage     Storage           `json:"storage"`
	Network     NetworkSpec       `json:"network"`
	Log         LogSpec           `json:"log"`
	Restart     RestartPolicy     `json:"restart"`
	Health      *Healthcheck      `json:"health"` // nil: none; Test ["NONE"]: switched off
	Stop        StopPolicy        `json:"stop"`
	AutoRemove  bool              `json:"autoRemove"`
	Init        *bool             `json:"init"`    // nil = daemon default
	Runtime     string            `json:"runtime"` // "" = default
	Labels      map[string]string `json:"labels"`  // never nil
	Annotations map[string]string `json:"annotations"`
	// Kept only to be shown again.
	ContainerIDFile string `json:"containerIDFile"`
	Isolation       string `json:"isolation"`
	Cgroup          string `json:"cgroup"`
}

// ImageRef is the image as the user named it and what that meant at create time.
type ImageRef struct {
	Ref string `json:"ref"` // as given
	ID  string `json:"id"`  // digest of the target descriptor, "sha256:…"
	// Manifest is the platform manifest's descriptor digest, media type and size.
	Manifest          string `json:"manifest"`
	ManifestMediaType string `json:"manifestMediaType"`
	ManifestSize      int64  `json:"manifestSize"`
	OS, Arch, Variant string
}

// Process is what runs. Entrypoint and Cmd are those after the merge with the image.
type Process struct {
	Entrypoint   []string `json:"entrypoint"`
	Cmd          []string `json:"cmd"`
	Env          []string `json:"env"` // user's entries first, then the image's
	WorkingDir   string   `json:"workingDir"`
	User         string   `json:"user"` // "", uid, name, uid:gid, …
	TTY          bool     `json:"tty"`
	OpenStdin    bool     `json:"openStdin"`
	StdinOnce    bool     `json:"stdinOnce"`
	AttachStdin  bool     `json:"attachStdin"`
	AttachStdout bool     `json:"attachStdout"`
	AttachStderr bool     `json:"attachStderr"`
	ConsoleSize  [2]uint  `json:"consoleSize"` // rows, columns; 0,0 unset
	ArgsEscaped  bool     `json:"argsEscaped"`
	Shell        []string `json:"shell"`
	OnBuild      []string `json:"onBuild"`
}

// Argv is the command line: entrypoint, then cmd.
func (p Process) Argv() []string {
	argv := make([]string, 0, len(p.Entrypoint)+len(p.Cmd))
	return append(append(argv, p.Entrypoint...), p.Cmd...)
}

// Namespaces holds the mode words: "" = default, "host", "private", "shareable", "container:<id>".
type Namespaces struct {
	IPC, PID, UTS, User, Cgroup string
}

// Resources are limits; bytes, nanoseconds of CPU, counts. Zero = unset; pointers where 0 is a value.
type Resources struct {
	CPUShares            int64            `json:"cpuShares"`
	NanoCPUs             int64            `json:"nanoCPUs"`
	CPUPeriod            int64            `json:"cpuPeriod"` // µs
	CPUQuota             int64            `json:"cpuQuota"`  // µs
	CPURealtimePeriod    int64            `json:"cpuRealtimePeriod"`
	CPURealtimeRuntime   int64            `json:"cpuRealtimeRuntime"`
	CpusetCpus           string           `json:"cpusetCpus"`
	CpusetMems           string           `json:"cpusetMems"`
	Memory               int64            `json:"memory"`
	MemoryReservation    int64            `json:"memoryReservation"`
	MemorySwap           int64            `json:"memorySwap"` // memory+swap; -1 unlimited
	MemorySwappiness     *int64           `json:"memorySwappiness"`
	KernelMemory         int64            `json:"kernelMemory"`
	KernelMemoryTCP      int64            `json:"kernelMemoryTCP"`
	OomKillDisable       *bool            `json:"oomKillDisable"`
	OomScoreAdj          int              `json:"oomScoreAdj"`
	PidsLimit            *int64           `json:"pidsLimit"`
	BlkioWeight          uint16           `json:"blkioWeight"`
	BlkioWeightDevice    []WeightDevice   `json:"blkioWeightDevice"`
	BlkioDeviceReadBps   []ThrottleDevice `json:"blkioDeviceReadBps"`
	BlkioDeviceWriteBps  []ThrottleDevice `json:"blkioDeviceWriteBps"`
	BlkioDeviceReadIOps  []ThrottleDevice `json:"blkioDeviceReadIOps"`
	BlkioDeviceWriteIOps []ThrottleDevice `json:"blkioDeviceWriteIOps"`
	Devices              []Device         `json:"devices"`
	DeviceCgroupRules    []string         `json:"deviceCgroupRules"`
	DeviceRequests       []DeviceRequest  `json:"deviceRequests"`
	Ulimits              []Ulimit         `json:"ulimits"`
	CgroupParent         string           `json:"cgroupParent"`
	// Windows only; echoed.
	CPUCount, CPUPercent              int64
	IOMaximumIOps, IOMaximumBandwidth uint64
}

// WeightDevice is a block I/O weight for one device.
type WeightDevice struct {
	Path   string
	Weight uint16
}

// ThrottleDevice is a block I/O limit for one device: bytes or operations in a second.
type ThrottleDevice struct {
	Path string
	Rate uint64
}

// Device maps a host device into the container.
type Device struct {
	HostPath, ContainerPath, Permissions string
}

// DeviceRequest asks a device driver (GPUs, CDI) for devices.
type DeviceRequest struct {
	Driver       string
	Count        int // -1 = all
	DeviceIDs    []string
	Capabilities [][]string
	Options      map[string]string
}

// Ulimit is one resource limit of the process.
type Ulimit struct {
	Name       string
	Soft, Hard int64
}

// Security is what the process may do.
type Security struct {
	Privileged     bool              `json:"privileged"`
	CapAdd         []string          `json:"capAdd"`
	CapDrop        []string          `json:"capDrop"`
	SecurityOpt    []string          `json:"securityOpt"`
	GroupAdd       []string          `json:"groupAdd"`
	ReadonlyRootfs bool              `json:"readonlyRootfs"`
	MaskedPaths    []string          `json:"maskedPaths"`   // nil: default set
	ReadonlyPaths  []string          `json:"readonlyPaths"` // nil: default set
	Sysctls        map[string]string `json:"sysctls"`
}

// Storage is what is mounted. Binds, Tmpfs, Mounts, Volumes and VolumesFrom are the user's words; Points is what they
// came to at create time.
type Storage struct {
	Binds        []string            `json:"binds"`
	Tmpfs        map[string]string   `json:"tmpfs"`
	Mounts       []MountRequest      `json:"mounts"`
	Volumes      map[string]struct{} `json:"volumes"` // anonymous volumes by destination
	VolumesFrom  []string            `json:"volumesFrom"`
	VolumeDriver string              `json:"volumeDriver"`
	StorageOpt   map[string]string   `json:"storageOpt"`
	ShmSize      int64               `json:"shmSize"` // bytes; 0 = default
	Points       []MountPoint        `json:"points"`
}

// MountRequest is one entry of the user's Mounts list.
type MountRequest struct {
	Type        string // bind | volume | tmpfs | image | cluster | npipe
	Source      string
	Target      string
	ReadOnly    bool
	Consistency string
	Bind        *BindOptions
	Volume      *VolumeOptions
	Tmpfs       *TmpfsOptions
	Image       *ImageMountOptions
	Cluster     bool // an (empty) ClusterOptions object was given
}

// BindOptions of a MountRequest.
type BindOptions struct {
	Propagation            string
	NonRecursive           bool
	CreateMountpoint       bool
	ReadOnlyNonRecursive   bool
	ReadOnlyForceRecursive bool
}

// VolumeOptions of a MountRequest.
type VolumeOptions struct {
	NoCopy        bool
	Labels        map[string]string
	Subpath       string
	HasDriver     bool // a DriverConfig object was given
	DriverName    string
	DriverOptions map[string]string
}

// TmpfsOptions of a MountRequest.
type TmpfsOptions struct {
	SizeBytes int64
	Mode      uint32 // permission bits
	Options   [][]string
}

// ImageMountOptions of a MountRequest.
type ImageMountOptions struct{ Subpath string }

// MountPoint is one mount of the container as inspect shows it.
type MountPoint struct {
	Type                                                       string // bind | volume | tmpfs | image
	Name                                                       string // volume name
	Source                                                     string // host path; an image's id; "" for tmpfs
	Destination                                                string
	Driver                                                     string // volume driver
	Mode                                                       string // as typed
	RW                                                         bool
	Propagation                                                string
	Anonymous                                                  bool // volume made for this container without a name: goes with it
	NoCopy                                                     bool
	SkipMountpointCreation                                     bool // the source must exist (Mounts of type bind)
	NonRecursive, ReadOnlyNonRecursive, ReadOnlyForceRecursive bool
	Subpath                                                    string
	OwnPropagation                                             bool   // Propagation was chosen by the engine, not by the user
	TmpfsData                                                  string // mount options of a tmpfs
}

// NetworkSpec is the network part of the user's words.
type NetworkSpec struct {
	Mode         string                        `json:"mode"`         // "default", "bridge", "host", "none", "container:<id>", a network
	Attachments  map[string]network.Attachment `json:"attachments"`  // by network name or id as given; never nil
	PortBindings map[string][]PortBinding      `json:"portBindings"` // by "80/tcp"; numbers as given
	PublishAll   bool                          `json:"publishAll"`
	ExposedPorts map[string]struct{}           `json:"exposedPorts"` // "80/tcp"
	DNS          []string                      `json:"dns"`
	DNSOptions   []string                      `json:"dnsOptions"`
	DNSSearch    []string                      `json:"dnsSearch"`
	ExtraHosts   []string                      `json:"extraHosts"`
	Links        []string                      `json:"links"`      // the user's words, until create has resolved them
	Linked       []Link                        `json:"linked"`     // what they came to
	MacAddress   string                        `json:"macAddress"` // of Config, before 1.44
	Disabled     bool                          `json:"disabled"`
}

// PortBinding is a host side as typed: HostPort may be "", a number or a range.
type PortBinding struct {
	HostIP, HostPort string
}

// LogSpec names the log driver; Driver is filled with the daemon's default at create.
type LogSpec struct {
	Driver  string            `json:"driver"`
	Options map[string]string `json:"options"` // never nil
}

// RestartPolicy says when a container is started again by the engine.
type RestartPolicy struct {
	Name       string `json:"name"` // "no", "always", "on-failure", "unless-stopped"
	MaxRetries int    `json:"maxRetries"`
}

// Healthcheck is a probe of the container.
type Healthcheck struct {
	Test          []string      `json:"test"`
	Interval      time.Duration `json:"interval"`
	Timeout       time.Duration `json:"timeout"`
	StartPeriod   time.Duration `json:"startPeriod"`
	StartInterval time.Duration `json:"startInterval"`
	Retries       int           `json:"retries"`
}

// StopPolicy is how a container is asked to end.
type StopPolicy struct {
	Signal  string `json:"signal"`  // "" = SIGTERM
	Timeout *int   `json:"timeout"` // seconds; nil = 10; -1 waits for ever
}
