package errkind

import (
	"errors"
	"fmt"
	"io"
	"testing"

	"github.com/containerd/errdefs"
)

func TestTextIsExactAndKindIsFound(t *testing.T) {
	err := NotFound("No such container: %s", "x")
	if err.Error() != "No such container: x" {
		t.Fatalf("text %q", err)
	}
	wrapped := fmt.Errorf("outer: %w", err)
	if !errdefs.IsNotFound(wrapped) || errdefs.IsConflict(wrapped) {
		t.Fatalf("kind of %v", wrapped)
	}
}

func TestCauseStaysReachable(t *testing.T) {
	err := Conflict("busy: %w", io.ErrUnexpectedEOF)
	if !errors.Is(err, io.ErrUnexpectedEOF) || !errdefs.IsConflict(err) {
		t.Fatalf("cause or kind lost: %v", err)
	}
	if With(errdefs.ErrNotFound, nil) != nil {
		t.Fatal("nil error got a kind")
	}
}
