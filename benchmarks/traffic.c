/* Either end of one TCP connection that carries as much as it can; static, so that it runs in a guest without a library.
 *
 * traffic (send | receive) (listen | connect) ADDRESS PORT SECONDS
 *
 * A listener prints `ready`. The receiver ends the connection after these seconds, and prints what it received: bits per
 * second after a warm-up, and bytes from the first to the last. The sender goes on until the connection ends, or some
 * seconds longer if it never hears of that.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

enum { CHUNK = 256 << 10, PATIENCE = 5 };
static const double WARM_UP = 0.5;
static char buffer[CHUNK];

static void fail(const char *what)
{
	perror(what);
	exit(1);
}

static double now(void)
{
	struct timespec time;
	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec + time.tv_nsec / 1e9;
}

static int join(int listens, const char *address, const char *port)
{
	struct sockaddr_in end = { .sin_family = AF_INET, .sin_port = htons(atoi(port)) };
	int made = socket(AF_INET, SOCK_STREAM, 0), on = 1;

	if (made < 0 || inet_pton(AF_INET, address, &end.sin_addr) != 1)
		fail(address);
	if (!listens) {
		if (connect(made, (struct sockaddr *)&end, sizeof(end)))
			fail("connect");
		return made;
	}
	setsockopt(made, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	if (bind(made, (struct sockaddr *)&end, sizeof(end)) || listen(made, 1))
		fail("listen");
	puts("ready");
	fflush(stdout);
	made = accept(made, NULL, NULL);
	if (made < 0)
		fail("accept");
	return made;
}

static void receive(int connection, double seconds)
{
	double begin = now() + WARM_UP, end = begin + seconds, time;
	unsigned long long counted = 0, all = 0;
	struct timeval wait = { .tv_usec = 100000 }; /* a connection that stalls must not be waited for */

	setsockopt(connection, SOL_SOCKET, SO_RCVTIMEO, &wait, sizeof(wait));
	while ((time = now()) < end) {
		ssize_t size = read(connection, buffer, CHUNK);

		if (size < 0 && errno == EAGAIN)
			continue;
		if (size <= 0)
			break;
		all += size;
		if (time >= begin)
			counted += size;
	}
	printf("%.0f %llu\n", counted * 8 / (time - begin), all);
}

int main(int count, char **words)
{
	if (count != 6) {
		fputs("usage: traffic (send | receive) (listen | connect) ADDRESS PORT SECONDS\n", stderr);
		return 2;
	}
	signal(SIGPIPE, SIG_IGN);
	int connection = join(!strcmp(words[2], "listen"), words[3], words[4]);
	double seconds = atof(words[5]);

	if (!strcmp(words[1], "receive")) {
		receive(connection, seconds);
		return 0;
	}
	alarm(seconds + WARM_UP + PATIENCE);
	while (write(connection, buffer, CHUNK) > 0)
		;
	return 0;
}
