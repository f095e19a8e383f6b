// A shop that never closes, as orders.c: orders accept|ignore|connect N PORT. A goroutine for each
// connection reads it to its end, and then waits for something that never comes.
package main

import (
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
)

// Crawler reads what it is handed.
type Crawler struct {
	closed chan bool
}

//go:noinline
func (c *Crawler) fetch(connection net.Conn) {
	bytes := make([]byte, 256)
	for {
		if _, err := connection.Read(bytes); err == io.EOF {
			break
		} else if err != nil {
			fail(err)
		}
	}
	<-c.closed
	connection.Close()
}

func (c *Crawler) ignore(connection net.Conn) {
	<-c.closed
	connection.Close()
}

//go:noinline
func takeOrder(listener net.Listener) net.Conn {
	connection, err := listener.Accept()
	if err != nil {
		fail(err)
	}
	return connection
}

//go:noinline
func serveOrders(listener net.Listener, count int, read func(net.Conn)) {
	for i := 0; i < count; i++ {
		go read(takeOrder(listener))
	}
}

//go:noinline
func dialSupplier(to string) net.Conn {
	connection, err := net.Dial("tcp4", to)
	if err != nil {
		fail(err)
	}
	return connection
}

//go:noinline
func dialSuppliers(to string, count int, read func(net.Conn)) {
	for i := 0; i < count; i++ {
		go read(dialSupplier(to))
	}
}

func fail(err error) {
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

func main() {
	if len(os.Args) != 4 {
		os.Exit(2)
	}
	count, err := strconv.Atoi(os.Args[2])
	if err != nil {
		fail(err)
	}
	address := "127.0.0.1:" + os.Args[3]
	crawler := Crawler{make(chan bool)}
	if os.Args[1] == "connect" {
		dialSuppliers(address, count, crawler.fetch)
		fmt.Println("ready", os.Args[3], os.Getpid())
	} else {
		listener, err := net.Listen("tcp4", address)
		if err != nil {
			fail(err)
		}
		fmt.Println("ready", listener.Addr().(*net.TCPAddr).Port, os.Getpid())
		read := crawler.fetch
		if os.Args[1] == "ignore" {
			read = crawler.ignore
		}
		serveOrders(listener, count, read)
	}
	// Not a deadlock: the input is open.
	io.Copy(io.Discard, os.Stdin)
}
