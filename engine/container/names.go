package container

import (
	"math/rand/v2"
	"strconv"
	"strings"

	"github.com/berthd/berth/engine/internal/ids"
)

func (m *Manager) reserveGenerated(id ID) string {
	for i := range 8 {
		n := left[rand.IntN(len(left))] + "_" + right[rand.IntN(len(right))]
		if i > 3 {
			n += strconv.Itoa(rand.IntN(10))
		}
		if m.reserve(n, id) == nil {
			return n
		}
	}
	n := ids.Short(string(id))
	_ = m.reserve(n, id) // an id is nobody else's name
	return n
}

// Words of the sea for containers nobody named.
var (
	left = strings.Fields(`able ample amber ardent azure balmy bold brave breezy bright brisk buoyant calm candid clear
		coastal cool coral crisp daring deep eager early fair fearless fine fleet fresh gentle glad golden grand hardy humble
		jolly keen kind light lively loyal lucid lucky mellow merry mighty modest neat nimble noble patient placid polished
		prime proud quick quiet ready robust salty serene sharp silent silver smooth solid sound spry steady stout sunny
		swift tidal tidy tranquil trim true vivid warm windward wise witty`)
	right = strings.Fields(`albatross anchor anchovy barge barnacle beacon bowline brig buoy cabin capstan captain clipper
		coaster compass coral corsair cormorant crane current cutter cuttlefish dinghy dock dolphin dory dredger eddy estuary
		ferry fjord fleet frigate galleon galley gannet grouper gull halyard harbor harpoon helm heron herring hull islet
		jetty kayak keel ketch knot lagoon lantern lighthouse limpet lobster lugger manta marina mariner marlin mast moorhen
		mooring mussel narwhal nautilus navigator oar octopus osprey oyster packet pelican pennant petrel pier pilot plover
		porpoise puffin quay raft reef regatta rigging rudder sail sailor sandpiper schooner seal sextant shoal skiff sloop
		spinnaker squid starfish steamer stern sturgeon surf tern tide tiller trawler trident tug turtle walrus wharf whale`)
)
