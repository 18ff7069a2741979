// Go's net/http as server and client. `peer server PORT` or `peer client REPEAT URL...`; see servers.ts.
package main

import (
	"bytes"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
)

func answer(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	switch strings.Split(r.URL.Path, "/")[1] {
	case "echo":
		w.WriteHeader(201)
		w.Write(body)
	case "large":
		w.Write(bytes.Repeat([]byte("x"), 300_000))
	case "missing":
		http.Error(w, "no", 404)
	case "broken":
		http.Error(w, "no", 503)
	default:
		io.WriteString(w, "pong\n")
	}
}

func ask(method, url string, body io.Reader) {
	request, err := http.NewRequest(method, url, body)
	if err != nil {
		log.Fatal(err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		log.Fatal(err)
	}
	io.Copy(io.Discard, response.Body)
	response.Body.Close()
}

func main() {
	if os.Args[1] == "server" {
		listener, err := net.Listen("tcp", "127.0.0.1:"+os.Args[2])
		if err != nil {
			log.Fatal(err)
		}
		fmt.Println("ready")
		log.Fatal(http.Serve(listener, http.HandlerFunc(answer)))
	}
	repeat, _ := strconv.Atoi(os.Args[2])
	for _, base := range os.Args[3:] {
		for i := 0; i < repeat; i++ {
			ask("GET", base+"/ping/7?secret=s3cret", nil)
			ask("GET", base+"/missing", nil)
			ask("GET", base+"/broken", nil)
			ask("HEAD", base+"/ping/8", nil)
			ask("POST", base+"/echo", strings.NewReader(strings.Repeat("y", 5000)))
		}
		ask("GET", base+"/large", nil)
	}
}
