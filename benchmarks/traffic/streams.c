/* Bulk transfer over one or several connections. */
#include "traffic.h"

#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { EVENTS = 64 };

/* Open or accept all connections, and watch them. */
static int join(const struct end *end, unsigned events)
{
	int polled = poller(), listening = end->serves ? listener(end) : -1;

	for (int number = 0; number < end->count; number++) {
		int connection = end->serves ? accept(listening, NULL, NULL) : connected(end);

		if (connection < 0)
			fail("accept");
		watch(polled, connection, events, connection);
	}
	return polled;
}

void receive_streams(const struct end *end)
{
	int polled = join(end, EPOLLIN), open = end->count;
	struct epoll_event events[EVENTS];
	struct count count = warm_up(end);

	while (goes_on(&count, end) && open) {
		int ready = epoll_wait(polled, events, EVENTS, 10);

		for (int each = 0; each < ready; each++) {
			int connection = events[each].data.u64;
			ssize_t size = recv(connection, room, CHUNK, MSG_DONTWAIT);

			if (size > 0) {
				add(&count, size);
			} else if (size == 0) {
				close(connection);
				open--;
			}
		}
	}
	result(&count);
}

void send_streams(const struct end *end)
{
	int polled = join(end, EPOLLOUT);
	struct epoll_event events[EVENTS];

	for (int open = end->count; open;) {
		int ready = epoll_wait(polled, events, EVENTS, -1);

		for (int each = 0; each < ready; each++) {
			int connection = events[each].data.u64;

			if (events[each].events & (EPOLLERR | EPOLLHUP)) {
				close(connection);
				open--;
			} else {
				send(connection, data, CHUNK, MSG_DONTWAIT);
			}
		}
	}
}
