// balancer LISTEN BACKEND...: the TCP balancer in front of the API servers. A backend that does not answer is passed over.
package main

import (
	"io"
	"log"
	"net"
	"os"
	"sync/atomic"
	"time"
)

var turn atomic.Uint64

func main() {
	if len(os.Args) < 3 {
		log.Fatal("usage: balancer LISTEN BACKEND...")
	}
	listener, err := net.Listen("tcp", os.Args[1])
	if err != nil {
		log.Fatal(err)
	}
	for {
		client, err := listener.Accept()
		if err != nil {
			log.Fatal(err)
		}
		go serve(client.(*net.TCPConn), os.Args[2:])
	}
}

func serve(client *net.TCPConn, backends []string) {
	defer client.Close()
	first := turn.Add(1)
	for i := range backends {
		backend := backends[(first+uint64(i))%uint64(len(backends))]
		conn, err := net.DialTimeout("tcp", backend, 500*time.Millisecond)
		if err != nil {
			continue
		}
		defer conn.Close()
		server := conn.(*net.TCPConn)
		done := make(chan struct{}, 2)
		go pipe(server, client, done)
		go pipe(client, server, done)
		<-done
		<-done
		return
	}
}

// pipe passes the end of one direction on, so that half-closed connections end as they would without us.
func pipe(to, from *net.TCPConn, done chan<- struct{}) {
	if _, err := io.Copy(to, from); err != nil {
		to.Close()
		from.Close()
	}
	to.CloseWrite()
	done <- struct{}{}
}
