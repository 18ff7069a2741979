// Program peer is the testbed's workload written in Go: net/http and plain TCP, server and client in one process.
// The commands it takes on stdin and what it answers are described in ../peers.ts.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// counts is what one peer counted about another.
type counts struct {
	Connections int64 `json:"connections"`
	Requests    int64 `json:"requests"`
	Sent        int64 `json:"sent"`
	Received    int64 `json:"received"`
	Failed      int64 `json:"failed"`
}

type command struct {
	ID          int    `json:"id"`
	Op          string `json:"op"`
	Host        string `json:"host"`
	Port        int    `json:"port"`
	Protocol    string `json:"protocol"`
	Path        string `json:"path"`
	Status      int    `json:"status"`
	Connections int    `json:"connections"`
	Requests    int    `json:"requests"`
	Up          int    `json:"up"`
	Down        int    `json:"down"`
	PauseMillis int    `json:"pauseMillis"`
}

// countedConn counts the payload of one connection.
type countedConn struct {
	net.Conn
	sent, received atomic.Int64
	accepted       bool
	remote         string // the client's name, once it is known
	requests       int64
	closeOnce      sync.Once
}

func (c *countedConn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.received.Add(int64(n))
	return n, err
}

func (c *countedConn) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	c.sent.Add(int64(n))
	return n, err
}

func (c *countedConn) Close() error {
	err := c.Conn.Close()
	if c.accepted {
		c.closeOnce.Do(func() { settle(c) })
	}
	return err
}

var (
	name   string
	mutex  sync.Mutex
	served = map[string]*counts{}
	open   atomic.Int64
)

// settle adds a connection that ended to what its client asked of this server.
func settle(c *countedConn) {
	mutex.Lock()
	defer mutex.Unlock()
	who := c.remote
	if who == "" {
		who = "?"
	}
	total := served[who]
	if total == nil {
		total = &counts{}
		served[who] = total
	}
	total.Connections++
	total.Requests += c.requests
	total.Sent += c.sent.Load()
	total.Received += c.received.Load()
	open.Add(-1)
}

type countingListener struct{ net.Listener }

func (l countingListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	open.Add(1)
	return &countedConn{Conn: c, accepted: true}, nil
}

type connKey struct{}

func serve(port int) error {
	listener, err := net.Listen("tcp", fmt.Sprintf(":%d", port))
	if err != nil {
		return err
	}
	httpSide := make(chan net.Conn)
	go func() {
		for {
			accepted, err := countingListener{listener}.Accept()
			if err != nil {
				return
			}
			go dispatch(accepted.(*countedConn), httpSide)
		}
	}()
	server := &http.Server{Handler: http.HandlerFunc(answer)}
	server.ConnContext = withConn
	go server.Serve(chanListener{httpSide, listener.Addr()})
	return nil
}

// chanListener hands connections whose first byte said HTTP to net/http.
type chanListener struct {
	conns chan net.Conn
	addr  net.Addr
}

func (l chanListener) Accept() (net.Conn, error) { return <-l.conns, nil }
func (l chanListener) Close() error              { return nil }
func (l chanListener) Addr() net.Addr            { return l.addr }

// peekedConn gives back what was read to find out the protocol.
type peekedConn struct {
	*countedConn
	reader *bufio.Reader
}

func (c peekedConn) Read(b []byte) (int, error) { return c.reader.Read(b) }

func dispatch(c *countedConn, httpSide chan net.Conn) {
	reader := bufio.NewReader(c)
	first, err := reader.Peek(4)
	if err != nil {
		c.Close()
		return
	}
	if string(first) == "RAW " {
		serveRaw(c, reader)
		return
	}
	httpSide <- peekedConn{c, reader}
}

// serveRaw answers `RAW <client> <up> <down>\n`, up bytes, with `<server>\n` and down bytes, as often as asked.
func serveRaw(c *countedConn, reader *bufio.Reader) {
	defer c.Close()
	for {
		line, err := reader.ReadString('\n')
		if err != nil {
			return
		}
		fields := strings.Fields(line)
		if len(fields) != 4 {
			return
		}
		c.remote = fields[1]
		up, _ := strconv.Atoi(fields[2])
		down, _ := strconv.Atoi(fields[3])
		if _, err := io.CopyN(io.Discard, reader, int64(up)); err != nil {
			return
		}
		c.requests++
		if _, err := c.Write(append([]byte(name+"\n"), make([]byte, down)...)); err != nil {
			return
		}
	}
}

func main() {
	name = os.Getenv("PEER_NAME")
	if port, _ := strconv.Atoi(os.Getenv("PEER_PORT")); port > 0 {
		if err := serve(port); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
	}
	var output sync.Mutex
	reply := func(id int, result any) {
		line, _ := json.Marshal(map[string]any{"id": id, "result": result})
		output.Lock()
		os.Stdout.Write(append(line, '\n'))
		output.Unlock()
	}
	reply(0, "ready")
	input := bufio.NewScanner(os.Stdin)
	for input.Scan() {
		var c command
		if err := json.Unmarshal(input.Bytes(), &c); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		switch c.Op {
		case "call":
			go func() { reply(c.ID, call(c)) }()
		case "report":
			mutex.Lock()
			reply(c.ID, map[string]any{"served": served, "open": open.Load()})
			mutex.Unlock()
		}
	}
}

func pause(c command) {
	if c.PauseMillis > 0 {
		time.Sleep(time.Duration(c.PauseMillis) * time.Millisecond)
	}
}
