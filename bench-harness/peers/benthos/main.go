// Benthos with what the peer row needs and nothing else: its HTTP input, its outputs, its metrics.
// A program of its own because the project is a library, from which each distribution is put together.
package main

import (
	"context"

	_ "github.com/redpanda-data/benthos/v4/public/components/io"
	_ "github.com/redpanda-data/benthos/v4/public/components/pure"
	"github.com/redpanda-data/benthos/v4/public/service"
)

func main() {
	service.RunCLI(context.Background())
}
