/* Flows that are open and idle. The opening end reads numbers from its input, one a line, opens as many flows as that, each
 * with a byte or a datagram in both directions, and prints the number.
 */
#include "traffic.h"

#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>

enum { ATTEMPTS = 10 };


static void exchange(int flow, size_t size)
{
	wait_at_most(flow, 1);
	for (int attempt = 0; attempt < ATTEMPTS; attempt++) {
		send(flow, data, size, 0);
		if (recv(flow, room, CHUNK, 0) == (ssize_t)size)
			return;
	}
	fail("no answer");
}

static void open_idle(const struct end *end, int (*open_one)(const struct end *))
{
	char line[32];

	for (int opened = 0; fgets(line, sizeof(line), stdin);) {
		for (; opened < atoi(line); opened++)
			exchange(open_one(end), end->size);
		printf("%d\n", opened);
		fflush(stdout);
	}
}

void open_idle_streams(const struct end *end)
{
	open_idle(end, connected);
}

void open_idle_datagrams(const struct end *end)
{
	open_idle(end, datagrams);
}
