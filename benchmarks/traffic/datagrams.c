/* Datagrams at full speed, and one at a time. */
#include "traffic.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { SAMPLES = 1 << 20 };

void receive_datagrams(const struct end *end)
{
	int receiving = datagrams(end);
	struct count count;

	if (!end->serves)
		send(receiving, "go", 2, 0);
	while (recv(receiving, room, CHUNK, MSG_PEEK) < 0) /* an error of the path is no datagram */
		;
	wait_at_most(receiving, 0.01);
	for (count = warm_up(end); goes_on(&count, end);)
		if (recv(receiving, room, CHUNK, 0) == (ssize_t)end->size)
			add(&count, 1);
	result(&count);
}

void send_datagrams(const struct end *end)
{
	int sending = datagrams(end);
	struct sockaddr_in guest;
	socklen_t length = sizeof(guest);

	if (end->serves) {
		if (recvfrom(sending, room, CHUNK, 0, (struct sockaddr *)&guest, &length) < 0 ||
		    connect(sending, (struct sockaddr *)&guest, length))
			fail("the first datagram");
	}
	for (size_t number = 0;; number++)
		if (send(sending, data + number * 64 % (CHUNK - end->size), end->size, 0) < 0)
			usleep(1000);
}

void answer_datagrams(const struct end *end)
{
	int serving = datagrams(end);

	while (1) {
		struct sockaddr_in guest;
		socklen_t length = sizeof(guest);
		ssize_t size = recvfrom(serving, room, CHUNK, 0, (struct sockaddr *)&guest, &length);

		if (size >= 0)
			sendto(serving, room, size, 0, (struct sockaddr *)&guest, length);
	}
}

static int compare(const void *one, const void *other)
{
	float left = *(const float *)one, right = *(const float *)other;
	return (left > right) - (left < right);
}

/* Whether the answer to this datagram came; later answers to others are left out. */
static int answered(int sending, unsigned long long number, size_t size)
{
	while (1) {
		ssize_t received = recv(sending, room, CHUNK, 0);

		if (received < 0)
			return 0;
		if ((size_t)received == size && !memcmp(room, &number, sizeof(number)))
			return 1;
	}
}

/* Round trips, one at a time. Appends their median and the 99th percentile, in seconds, and how many had no answer. */
void time_datagrams(const struct end *end)
{
	static float taken[SAMPLES];
	int sending = datagrams(end);
	struct count count = warm_up(end);
	size_t lost = 0;

	wait_at_most(sending, 0.1);
	for (unsigned long long number = 0; goes_on(&count, end) && count.units < SAMPLES; number++) {
		memcpy(data, &number, sizeof(number));
		send(sending, data, end->size, 0);
		if (!answered(sending, number, end->size)) {
			lost += count.counts;
			continue;
		}
		if (count.counts)
			taken[count.units] = now() - count.time;
		add(&count, 1);
	}
	qsort(taken, count.units, sizeof(*taken), compare);
	result(&count);
	printf(" %.9f %.9f %zu", taken[count.units / 2], taken[count.units * 99 / 100], lost);
}
