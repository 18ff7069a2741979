module kubenetprobe/testbed/peer

go 1.21
