// A server with known delays, for generators to measure: the delay of a request follows from its
// number alone, so every generator meets the same ones in the same order.
package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"flag"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// The delay of request n: 80 % 100 ms, 17 % 150 ms, 2.5 % 300 ms, 0.5 % 600 ms, spread evenly. The
// percentiles that are compared lie within these classes, not at their borders.
func delay(n uint64) time.Duration {
	// 377 and 1000 have no common factor: all residues come once in a thousand.
	switch n = n * 377 % 1000; {
	case n < 800:
		return 100 * time.Millisecond
	case n < 970:
		return 150 * time.Millisecond
	case n < 995:
		return 300 * time.Millisecond
	default:
		return 600 * time.Millisecond
	}
}

// A connection whose first bytes are read late, those of a TLS handshake too.
type lateConn struct {
	net.Conn
	late time.Duration
	once sync.Once
}

func (c *lateConn) Read(bytes []byte) (int, error) {
	c.once.Do(func() { time.Sleep(c.late) })
	return c.Conn.Read(bytes)
}

type lateListener struct {
	net.Listener
	late time.Duration
}

func (l lateListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &lateConn{Conn: conn, late: l.late}, nil
}

func certificate() tls.Certificate {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		log.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		Subject:      pkix.Name{CommonName: "crosscheck"},
		NotBefore:    time.Now().Add(-time.Hour),
		NotAfter:     time.Now().Add(24 * time.Hour),
		IPAddresses:  []net.IP{net.IPv4(127, 0, 0, 1)},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		log.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

func main() {
	secure := flag.Bool("tls", false, "speak TLS")
	late := flag.Duration("late", 0, "read the first bytes of a connection this late")
	hang := flag.Bool("hang", false, "never answer the slowest class")
	freezeAt := flag.Uint64("freeze-at", 0, "request from which on the server stands still")
	freeze := flag.Duration("freeze", 0, "how long it stands still")
	flag.Parse()

	var count atomic.Uint64
	var thaw atomic.Int64
	handler := func(answer http.ResponseWriter, request *http.Request) {
		n := count.Add(1) - 1
		wait := delay(n)
		if *freeze > 0 {
			// One delay for all, so that the freeze stands out.
			wait = 20 * time.Millisecond
			if n >= *freezeAt {
				thaw.CompareAndSwap(0, time.Now().Add(*freeze).UnixNano())
				wait = max(wait, time.Until(time.Unix(0, thaw.Load())))
			}
		}
		// The server counts from the head; a body of this size has come with it.
		begin := time.Now()
		_, _ = io.Copy(io.Discard, request.Body)
		if *hang && wait == 600*time.Millisecond {
			<-request.Context().Done()
			return
		}
		time.Sleep(wait - time.Since(begin))
		answer.WriteHeader(http.StatusOK)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(listener.Addr())
	_ = os.Stdout.Sync()
	var serving net.Listener = lateListener{listener, *late}
	if *secure {
		serving = tls.NewListener(serving, &tls.Config{
			Certificates: []tls.Certificate{certificate()},
			NextProtos:   []string{"http/1.1"},
		})
	}
	server := &http.Server{Handler: http.HandlerFunc(handler), ErrorLog: log.New(io.Discard, "", 0)}
	log.Fatal(server.Serve(serving))
}
