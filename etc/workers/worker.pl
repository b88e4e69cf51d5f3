#!/usr/bin/perl
# A worker of a superd pool, see superd-pool(7): one connection at a time.
use strict;
use warnings;
use IO::Handle;
use IO::Socket;
use Socket qw(SOL_SOCKET SCM_RIGHTS);
use Socket::MsgHdr;

# A client that is gone is the end of its connection, not of the worker.
$SIG{PIPE} = 'IGNORE';

open(my $channel, '+<&=', 3) or die "descriptor 3: $!";

sub say_to_superd {
    my ($line) = @_;
    my $message = Socket::MsgHdr->new(buf => $line);
    defined sendmsg($channel, $message, 0) or exit 0;
}

sub serve {
    my ($connection, $fields) = @_;
    sysread($connection, my $question, 4096);
    my $client = $fields->{client} // 'you';
    syswrite($connection, "hello $client\n");
}

say_to_superd('READY');
while (1) {
    my $message = Socket::MsgHdr->new(buflen => 4096, controllen => 64);
    my $length = recvmsg($channel, $message, 0);
    next if !defined $length && $!{EINTR};
    last if !$length;
    my ($word, $rest) = split / /, $message->buf, 2;
    last if $word eq 'DRAIN';
    next if $word ne 'CONN';
    # Fields that nobody knows yet do no harm.
    my %fields = map { /^([^=]+)=(.*)$/ ? ($1, $2) : () } split / /, $rest;
    my ($level, $kind, $data) = $message->cmsghdr;
    next if !defined $data || $level != SOL_SOCKET || $kind != SCM_RIGHTS;
    open(my $connection, '+<&=', unpack('i', $data)) or next;
    say_to_superd("TAKE $fields{id}");
    serve($connection, \%fields);
    close $connection;
    say_to_superd("DONE $fields{id}");
}
