//go:build tools

// Keeps the load generator that is built from here in go.mod.
package main

import _ "github.com/tsenart/vegeta/v12"
