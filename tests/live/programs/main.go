// A Go program that is stripped: a goroutine that never waits, and one that waits for its standard
// input.
package main

import "os"

type Crawler struct{}

//go:noinline
func (c *Crawler) fetch() int {
	b := make([]byte, 1)
	n, _ := os.Stdin.Read(b) // here
	return n
}

//go:noinline
func spins(n int) int {
	x := 0
	for i := 0; i < n; i++ {
		x += i * x
	}
	return x
}

func works() {
	for {
		spins(1 << 30) // and here
	}
}

func main() {
	go works()
	(&Crawler{}).fetch()
}
