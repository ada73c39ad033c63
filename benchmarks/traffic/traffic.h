/* What the kinds of traffic have in common. */
#ifndef TRAFFIC_H
#define TRAFFIC_H

#include <netinet/in.h>
#include <stddef.h>

enum { CHUNK = 256 << 10 }; /* bytes per read or write of a stream */

/* One end of the traffic, as its command line describes it. */
struct end {
	struct sockaddr_in address; /* to listen on, or to connect to */
	double seconds;             /* of traffic that is counted */
	size_t size;                /* of a datagram */
	int count;                  /* of connections at once */
	int serves;                 /* it listens */
};

/* What the end that measures counts. */
struct count {
	double begin, last, time;       /* of the counted seconds; now */
	int counts;                     /* the warm-up is over */
	unsigned long long units, all;  /* counted, and since the first */
};

extern unsigned char data[CHUNK]; /* random: the price of a checksum depends on the bytes */
extern unsigned char room[CHUNK];

_Noreturn void fail(const char *what);
double now(void); /* in seconds */
int stream(void); /* a new TCP socket without Nagle's algorithm, which does not wait */
int listener(const struct end *end); /* prints `ready` */
int connected(const struct end *end);
int datagrams(const struct end *end); /* prints `ready` if it serves */
int poller(void);
void watch(int poller, int descriptor, unsigned events, unsigned long long tag);
void wait_at_most(int descriptor, double seconds);
struct count warm_up(const struct end *end);
int goes_on(struct count *count, const struct end *end); /* 0 at the end; prints `begin` when counting begins */
void add(struct count *count, size_t units);
void result(const struct count *count); /* without the end of the line */

void receive_streams(const struct end *end);
void send_streams(const struct end *end);
void serve_requests(const struct end *end);
void send_requests(const struct end *end);
void serve_connections(const struct end *end);
void open_connections(const struct end *end);
void open_at_once(const struct end *end);
void receive_datagrams(const struct end *end);
void send_datagrams(const struct end *end);
void answer_datagrams(const struct end *end);
void time_datagrams(const struct end *end);
void open_idle_streams(const struct end *end);
void open_idle_datagrams(const struct end *end);

#endif
