/* Requests and answers of one byte: over connections that stay, over one connection each, and many of them at once. */
#include "traffic.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { EVENTS = 64, LISTENER = 0xffffffff };

/* Answer every byte. With `once`, close after the first answer, as an HTTP/1.0 server does. */
static void answer(const struct end *end, int once)
{
	int polled = poller(), listening = listener(end);
	struct epoll_event events[EVENTS];
	unsigned char byte;

	watch(polled, listening, EPOLLIN, LISTENER);
	while (1) {
		int ready = epoll_wait(polled, events, EVENTS, -1);

		for (int each = 0; each < ready; each++) {
			int connection = events[each].data.u64;

			if (events[each].data.u64 == LISTENER) {
				connection = accept4(listening, NULL, NULL, SOCK_NONBLOCK);
				if (connection >= 0)
					watch(polled, connection, EPOLLIN, connection);
			} else if (recv(connection, &byte, 1, 0) > 0) {
				send(connection, &byte, 1, 0);
				if (once)
					close(connection);
			} else if (errno != EAGAIN) {
				close(connection);
			}
			errno = 0;
		}
	}
}

void serve_requests(const struct end *end)
{
	answer(end, 0);
}

void serve_connections(const struct end *end)
{
	answer(end, 1);
}

void send_requests(const struct end *end)
{
	int polled = poller();
	struct epoll_event events[EVENTS];
	struct count count;
	unsigned char byte;

	for (int number = 0; number < end->count; number++) {
		int connection = connected(end);

		watch(polled, connection, EPOLLIN, connection);
		send(connection, data + number, 1, 0);
	}
	for (count = warm_up(end); goes_on(&count, end);) {
		int ready = epoll_wait(polled, events, EVENTS, 10);

		for (int each = 0; each < ready; each++) {
			int connection = events[each].data.u64;
			ssize_t size = recv(connection, &byte, 1, MSG_DONTWAIT);

			if (size == 0)
				fail("the server closed a connection");
			if (size < 0)
				continue;
			add(&count, 1);
			send(connection, data + count.all % CHUNK, 1, 0);
		}
	}
	result(&count);
}

/* Begin a connection. Its first event says that it is open. */
static int begin_connection(const struct end *end, int polled)
{
	int connection = stream();

	if (connect(connection, (struct sockaddr *)&end->address, sizeof(end->address)) && errno != EINPROGRESS)
		fail("connect");
	watch(polled, connection, EPOLLOUT, connection);
	return connection;
}

/* Continue a connection on which something happened: 1 if it is complete, -1 if it has failed, else 0. */
static int go_on(int polled, const struct epoll_event *event)
{
	static unsigned long long requests;
	static unsigned char answered[1 << 16]; /* by descriptor */
	int connection = event->data.u64;
	unsigned char byte;

	if (event->events & EPOLLOUT) {
		answered[connection] = 0;
		if (send(connection, data + requests++ % CHUNK, 1, 0) != 1)
			return -1;
		watch(polled, connection, EPOLLIN, connection);
		return 0;
	}
	while (1) {
		ssize_t size = recv(connection, &byte, 1, 0);

		if (size < 0)
			return errno == EAGAIN ? 0 : -1;
		if (!size)
			return answered[connection] ? 1 : -1;
		answered[connection] = 1;
	}
}

void open_connections(const struct end *end)
{
	int polled = poller();
	struct epoll_event events[EVENTS];
	struct count count;

	for (int number = 0; number < end->count; number++)
		begin_connection(end, polled);
	for (count = warm_up(end); goes_on(&count, end);) {
		int ready = epoll_wait(polled, events, EVENTS, 10);

		for (int each = 0; each < ready; each++) {
			int done = go_on(polled, &events[each]);

			if (!done)
				continue;
			if (done > 0)
				add(&count, 1);
			close(events[each].data.u64);
			begin_connection(end, polled);
		}
	}
	result(&count);
}

/* All connections at once. The counted seconds end with the last answer. Appends how many had no answer in time. */
void open_at_once(const struct end *end)
{
	int polled = poller(), open = end->count;
	struct epoll_event events[EVENTS];
	struct count count = { .begin = now() };
	double last = count.begin;

	goes_on(&count, end);
	for (int number = 0; number < end->count; number++)
		begin_connection(end, polled);
	while (goes_on(&count, end) && open) {
		int ready = epoll_wait(polled, events, EVENTS, 100);

		for (int each = 0; each < ready; each++) {
			int done = go_on(polled, &events[each]);

			if (!done)
				continue;
			if (done > 0) {
				add(&count, 1);
				last = now();
			}
			close(events[each].data.u64);
			open--;
		}
	}
	count.time = last;
	result(&count);
	printf(" %llu", end->count - count.units);
}
