# The shop's stock: a line protocol over TCP, item number in, count out. `refused on` on stdin: it stops listening.
#   perl stock.pl PORT
use strict;
use warnings;
use IO::Select;
use IO::Socket::INET;

$0 = 'shop-stock';
$SIG{PIPE} = 'IGNORE';
my $port = shift;

sub listener {
    return IO::Socket::INET->new(LocalAddr => '127.0.0.1', LocalPort => $port, Listen => 64, ReuseAddr => 1)
      // die "listen: $!";
}

my $listener = listener();
my $wait = IO::Select->new(\*STDIN, $listener);
while (1) {
    for my $ready ($wait->can_read) {
        if ($ready == \*STDIN) {
            exit 0 unless sysread STDIN, my $line, 100;
            if ($line =~ / on/ && $listener) {
                $wait->remove($listener);
                close $listener;
                undef $listener;
            }
            elsif ($line =~ / off/ && !$listener) {
                $listener = listener();
                $wait->add($listener);
            }
        }
        elsif ($listener && $ready == $listener) {
            my $client = $listener->accept or next;
            my $item = <$client>;
            print {$client} 7, "\n";
            close $client;
        }
    }
}
