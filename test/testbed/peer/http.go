package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"time"
)

func withConn(ctx context.Context, c net.Conn) context.Context {
	return context.WithValue(ctx, connKey{}, c)
}

// answer serves `GET|POST <path>?down=<bytes>&status=<code>`; both sides name themselves in X-Peer.
func answer(w http.ResponseWriter, r *http.Request) {
	io.Copy(io.Discard, r.Body)
	c := r.Context().Value(connKey{}).(peekedConn).countedConn
	c.remote = r.Header.Get("X-Peer")
	c.requests++
	query := r.URL.Query()
	down, _ := strconv.Atoi(query.Get("down"))
	status, _ := strconv.Atoi(query.Get("status"))
	if status == 0 {
		status = http.StatusOK
	}
	w.Header().Set("X-Peer", name)
	w.Header().Set("Content-Length", strconv.Itoa(down))
	w.WriteHeader(status)
	w.Write(make([]byte, down))
}

// call makes the connections of one command one after the other and says what they came to, per answering server.
func call(c command) map[string]*counts {
	results := map[string]*counts{}
	for i := 0; i < c.Connections; i++ {
		who, counted := callOnce(c)
		if results[who] == nil {
			results[who] = &counts{}
		}
		total := results[who]
		total.Connections += counted.Connections
		total.Requests += counted.Requests
		total.Sent += counted.Sent
		total.Received += counted.Received
		total.Failed += counted.Failed
	}
	return results
}

func callOnce(c command) (string, counts) {
	plain, err := net.DialTimeout("tcp", net.JoinHostPort(c.Host, strconv.Itoa(c.Port)), 10*time.Second)
	if err != nil {
		return "?", counts{Failed: 1}
	}
	conn := &countedConn{Conn: plain}
	defer plain.Close()
	who, requests := "?", int64(0)
	if c.Protocol == "http" {
		who, requests, err = callHTTP(c, conn)
	} else {
		who, requests, err = callRaw(c, conn)
	}
	result := counts{Connections: 1, Requests: requests, Sent: conn.sent.Load(), Received: conn.received.Load()}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		result.Failed = 1
	}
	return who, result
}

func callRaw(c command, conn *countedConn) (string, int64, error) {
	who, reader := "?", bufio.NewReader(conn)
	for i := 0; i < c.Requests; i++ {
		head := fmt.Sprintf("RAW %s %d %d\n", name, c.Up, c.Down)
		if _, err := conn.Write(append([]byte(head), make([]byte, c.Up)...)); err != nil {
			return who, int64(i), err
		}
		line, err := reader.ReadString('\n')
		if err != nil {
			return who, int64(i), err
		}
		who = strings.TrimSpace(line)
		if _, err := io.CopyN(io.Discard, reader, int64(c.Down)); err != nil {
			return who, int64(i), err
		}
		pause(c)
	}
	return who, int64(c.Requests), nil
}

// callHTTP writes and reads messages itself: http.Transport gives a connection up, and would dial another, when an
// answer overtakes the end of its own write.
func callHTTP(c command, conn *countedConn) (string, int64, error) {
	who, reader := "?", bufio.NewReader(conn)
	for i := 0; i < c.Requests; i++ {
		method, body := http.MethodGet, io.Reader(nil)
		if c.Up > 0 {
			method, body = http.MethodPost, bytes.NewReader(make([]byte, c.Up))
		}
		address := net.JoinHostPort(c.Host, strconv.Itoa(c.Port))
		url := fmt.Sprintf("http://%s%s?down=%d&status=%d", address, c.Path, c.Down, c.Status)
		request, err := http.NewRequest(method, url, body)
		if err != nil {
			return who, int64(i), err
		}
		request.Header.Set("X-Peer", name)
		if err := request.Write(conn); err != nil {
			return who, int64(i), err
		}
		response, err := http.ReadResponse(reader, request)
		if err != nil {
			return who, int64(i), err
		}
		who = response.Header.Get("X-Peer")
		_, err = io.Copy(io.Discard, response.Body)
		response.Body.Close()
		if err != nil {
			return who, int64(i), err
		}
		pause(c)
	}
	return who, int64(c.Requests), nil
}
