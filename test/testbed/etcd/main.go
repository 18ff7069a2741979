// Program etcd is the real etcd server, built from its published Go modules; the testbed's API server stores in it.
package main

import (
	"os"

	"go.etcd.io/etcd/server/v3/etcdmain"
)

func main() {
	etcdmain.Main(os.Args)
}
