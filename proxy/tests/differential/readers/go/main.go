// Gives each case to the server of net/http, and prints what it took for requests: one line of JSON a case.
package main

import (
	"bufio"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"regexp"
	"runtime"
	"sort"
	"strings"
	"sync"
	"time"
)

type request struct {
	Method  string      `json:"method"`
	Target  string      `json:"target"`
	Version string      `json:"version"`
	Headers [][2]string `json:"headers"`
	Body    []byte      `json:"body"`
}

type outcome struct {
	Requests []request `json:"requests"`
	Error    *string   `json:"error"`
}

// The server takes this error of a connection for one that broke, and refuses nothing because of it.
var exhausted = &net.OpError{Op: "read", Err: errors.New("no more input")}

// A connection on which everything is there at once.
type connection struct {
	mutex   sync.Mutex
	input   []byte
	written []byte
	outcome outcome
	closed  chan struct{}
	once    sync.Once
}

func (c *connection) Read(piece []byte) (int, error) {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	if len(c.input) == 0 {
		return 0, exhausted
	}
	count := copy(piece, c.input)
	c.input = c.input[count:]
	return count, nil
}

func (c *connection) Write(piece []byte) (int, error) {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	c.written = append(c.written, piece...)
	return len(piece), nil
}

func (c *connection) Close() error {
	c.once.Do(func() { close(c.closed) })
	return nil
}

func (c *connection) LocalAddr() net.Addr              { return &net.TCPAddr{} }
func (c *connection) RemoteAddr() net.Addr             { return &net.TCPAddr{} }
func (c *connection) SetDeadline(time.Time) error      { return nil }
func (c *connection) SetReadDeadline(time.Time) error  { return nil }
func (c *connection) SetWriteDeadline(time.Time) error { return nil }

type listener chan net.Conn

func (l listener) Accept() (net.Conn, error) { return <-l, nil }
func (l listener) Close() error              { return nil }
func (l listener) Addr() net.Addr            { return &net.TCPAddr{} }

type key struct{}

// Every byte as the character of its number, as the other readers print them.
func latin1(text string) string {
	characters := make([]rune, len(text))
	for at := range len(text) {
		characters[at] = rune(text[at])
	}
	return string(characters)
}

func handle(response http.ResponseWriter, r *http.Request) {
	c := r.Context().Value(key{}).(*connection)
	body, err := io.ReadAll(r.Body)
	if err != nil {
		if !errors.Is(err, exhausted) && c.outcome.Error == nil {
			text := err.Error()
			c.outcome.Error = &text
		}
		response.Header().Set("Connection", "close")
		return
	}
	headers := [][2]string{}
	add := func(name, value string) { headers = append(headers, [2]string{latin1(name), latin1(value)}) }
	for name, values := range r.Header {
		for _, value := range values {
			add(name, value)
		}
	}
	// The server keeps these elsewhere.
	if r.Host != "" {
		add("Host", r.Host)
	}
	for _, coding := range r.TransferEncoding {
		add("Transfer-Encoding", coding)
	}
	sort.SliceStable(headers, func(a, b int) bool { return headers[a][0] < headers[b][0] })
	c.outcome.Requests = append(c.outcome.Requests, request{
		Method:  latin1(r.Method),
		Target:  latin1(r.RequestURI),
		Version: strings.TrimPrefix(r.Proto, "HTTP/"),
		Headers: headers,
		Body:    body,
	})
}

var refusal = regexp.MustCompile(`(?s)HTTP/1\.[01] ([45]\d\d[^\r]*).*?\r\n\r\n(.*)`)

func read(input []byte, connections listener) outcome {
	c := &connection{input: input, closed: make(chan struct{}), outcome: outcome{Requests: []request{}}}
	connections <- c
	<-c.closed
	c.mutex.Lock()
	defer c.mutex.Unlock()
	if found := refusal.FindSubmatch(c.written); found != nil && c.outcome.Error == nil {
		text := string(found[2])
		if text == "" {
			text = string(found[1])
		}
		c.outcome.Error = &text
	}
	return c.outcome
}

func main() {
	connections := make(listener)
	server := &http.Server{
		Handler:                      http.HandlerFunc(handle),
		DisableGeneralOptionsHandler: true,
		ErrorLog:                     log.New(io.Discard, "", 0),
		ConnContext: func(of context.Context, c net.Conn) context.Context {
			return context.WithValue(of, key{}, c)
		},
	}
	go server.Serve(connections)
	out := bufio.NewWriter(os.Stdout)
	defer out.Flush()
	print := func(value any) {
		line, err := json.Marshal(value)
		if err != nil {
			panic(err)
		}
		fmt.Fprintf(out, "%s\n", line)
	}
	print("Go " + strings.TrimPrefix(runtime.Version(), "go"))
	text, err := os.ReadFile(os.Args[1])
	if err != nil {
		panic(err)
	}
	var cases []string
	if err := json.Unmarshal(text, &cases); err != nil {
		panic(err)
	}
	for _, encoded := range cases {
		input, err := base64.StdEncoding.DecodeString(encoded)
		if err != nil {
			panic(err)
		}
		print(read(input, connections))
	}
}
