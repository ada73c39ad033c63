/* Either end of the traffic that the benchmarks measure; static, so that it runs in a guest without a library.
 *
 * traffic (serve | connect) KIND ADDRESS PORT SECONDS SIZE COUNT
 *
 * An end that serves prints `ready`. The end that measures prints `begin` when it begins to count, after a warm-up, and at
 * last one line: units counted, the seconds that took, and the units since the first one; some kinds append values.
 * The receiver counts, so lost data does not count. All data is random.
 */
#include "traffic.h"

#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/random.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

enum { BACKLOG = 4096, QUEUE = 64 << 20, PATIENCE = 120 /* seconds after which an end is alone and ends */ };

static const double WARM_UP = 0.3; /* seconds before counting begins */

unsigned char data[CHUNK], room[CHUNK];

void fail(const char *what)
{
	perror(what);
	exit(1);
}

double now(void)
{
	struct timespec time;
	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec + time.tv_nsec / 1e9;
}

int stream(void)
{
	int made = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), on = 1;

	if (made < 0)
		fail("socket");
	setsockopt(made, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	return made;
}

static void ready(void)
{
	puts("ready");
	fflush(stdout);
}

int listener(const struct end *end)
{
	int made = socket(AF_INET, SOCK_STREAM, 0), on = 1;

	setsockopt(made, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	if (bind(made, (struct sockaddr *)&end->address, sizeof(end->address)) || listen(made, BACKLOG))
		fail("listen");
	ready();
	return made;
}

int connected(const struct end *end)
{
	int made = socket(AF_INET, SOCK_STREAM, 0), on = 1;

	if (connect(made, (struct sockaddr *)&end->address, sizeof(end->address)))
		fail("connect");
	setsockopt(made, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	return made;
}

int datagrams(const struct end *end)
{
	int made = socket(AF_INET, SOCK_DGRAM, 0), queue = QUEUE;
	const struct sockaddr *address = (const struct sockaddr *)&end->address;

	/* Else what counts is how often the kernel lets the receiver run: by default it keeps 15 datagrams of 8000 bytes */
	if (setsockopt(made, SOL_SOCKET, SO_RCVBUFFORCE, &queue, sizeof(queue)))
		fail("SO_RCVBUFFORCE");
	if (end->serves ? bind(made, address, sizeof(end->address)) : connect(made, address, sizeof(end->address)))
		fail("datagrams");
	if (end->serves)
		ready();
	return made;
}

int poller(void)
{
	int made = epoll_create1(0);

	if (made < 0)
		fail("epoll_create1");
	return made;
}

void watch(int poller, int descriptor, unsigned events, unsigned long long tag)
{
	struct epoll_event event = { .events = events, .data.u64 = tag };

	if (epoll_ctl(poller, EPOLL_CTL_ADD, descriptor, &event) && epoll_ctl(poller, EPOLL_CTL_MOD, descriptor, &event))
		fail("epoll_ctl");
}

void wait_at_most(int descriptor, double seconds)
{
	struct timeval wait = { .tv_sec = seconds, .tv_usec = (seconds - (long)seconds) * 1e6 };

	setsockopt(descriptor, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof(wait));
}

struct count warm_up(const struct end *end)
{
	double begin = now() + WARM_UP;

	return (struct count){ .begin = begin, .last = begin + end->seconds };
}

int goes_on(struct count *count, const struct end *end)
{
	count->time = now();
	if (!count->counts && count->time >= count->begin) {
		count->counts = 1;
		count->begin = count->time;
		count->last = count->begin + end->seconds;
		puts("begin");
		fflush(stdout);
	}
	return count->time < count->last;
}

void add(struct count *count, size_t units)
{
	count->all += units;
	if (count->counts)
		count->units += units;
}

void result(const struct count *count)
{
	printf("%llu %.9f %llu", count->units, count->time - count->begin, count->all);
}

static const struct kind {
	const char *name;
	void (*serve)(const struct end *), (*connect)(const struct end *);
} kinds[] = {
	{ "tcp-up", receive_streams, send_streams },
	{ "tcp-down", send_streams, receive_streams },
	{ "tcp-rr", serve_requests, send_requests },
	{ "tcp-crr", serve_connections, open_connections },
	{ "burst", serve_connections, open_at_once },
	{ "udp-up", receive_datagrams, send_datagrams },
	{ "udp-down", send_datagrams, receive_datagrams },
	{ "udp-rr", answer_datagrams, time_datagrams },
	{ "idle-tcp", serve_requests, open_idle_streams },
	{ "idle-udp", answer_datagrams, open_idle_datagrams },
};

int main(int count, char **words)
{
	struct end end = { .address.sin_family = AF_INET };

	if (count != 8 || inet_pton(AF_INET, words[3], &end.address.sin_addr) != 1) {
		fputs("usage: traffic (serve | connect) KIND ADDRESS PORT SECONDS SIZE COUNT\n", stderr);
		return 2;
	}
	end.serves = !strcmp(words[1], "serve");
	end.address.sin_port = htons(atoi(words[4]));
	end.seconds = atof(words[5]);
	end.size = atoi(words[6]);
	end.count = atoi(words[7]);
	for (size_t filled = 0; filled < CHUNK; filled += 256)
		if (getrandom(data + filled, 256, 0) != 256)
			fail("getrandom");
	signal(SIGPIPE, SIG_IGN);
	alarm(PATIENCE);
	for (const struct kind *kind = kinds; kind < kinds + sizeof(kinds) / sizeof(*kinds); kind++)
		if (!strcmp(words[2], kind->name)) {
			(end.serves ? kind->serve : kind->connect)(&end);
			putchar('\n');
			return 0;
		}
	fprintf(stderr, "no such kind: %s\n", words[2]);
	return 2;
}
