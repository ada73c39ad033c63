/* A client of UDP echoes, for guests that have no other program for it.
 *
 * ask ADDRESS PORT DISCOVER WORD...
 *
 * DISCOVER is a value of IP_MTU_DISCOVER, or `-`. For each word it prints one. For a size: the size of the answer to a
 * datagram of that many bytes, or the name of the error, which is EAGAIN if no answer came. For `mtu<N`: the path MTU
 * that the kernel knows, as soon as it is below N.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

enum { LARGEST = 65536, PATIENCE = 10 /* seconds */ };

static char data[LARGEST];
static struct sockaddr_in server4 = {.sin_family = AF_INET};
static struct sockaddr_in6 server6 = {.sin6_family = AF_INET6};
static int is4;

static int connected(void)
{
	int made = socket(is4 ? AF_INET : AF_INET6, SOCK_DGRAM, 0);
	struct timeval limit = {PATIENCE, 0};
	struct sockaddr *server = is4 ? (struct sockaddr *)&server4 : (struct sockaddr *)&server6;

	if (made < 0 || connect(made, server, is4 ? sizeof(server4) : sizeof(server6))) {
		perror("connect");
		exit(1);
	}
	setsockopt(made, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
	return made;
}

static int known_mtu(void)
{
	int fresh = connected(), mtu = 0;
	socklen_t size = sizeof(mtu);

	getsockopt(fresh, is4 ? IPPROTO_IP : IPPROTO_IPV6, is4 ? IP_MTU : IPV6_MTU, &mtu, &size);
	close(fresh);
	return mtu;
}

static void ask(int near, int size)
{
	ssize_t received;

	if (send(near, data, size, 0) >= 0 && (received = recv(near, data, LARGEST, 0)) >= 0)
		printf("%zd ", received);
	else
		printf("%s ", strerrorname_np(errno));
}

int main(int count, char **words)
{
	int near, discover;

	if (count < 4)
		return 2;
	is4 = inet_pton(AF_INET, words[1], &server4.sin_addr) == 1;
	if (!is4 && inet_pton(AF_INET6, words[1], &server6.sin6_addr) != 1)
		return 2;
	server4.sin_port = server6.sin6_port = htons(atoi(words[2]));
	near = connected();
	discover = atoi(words[3]);
	if (*words[3] != '-' && setsockopt(near, is4 ? IPPROTO_IP : IPPROTO_IPV6, is4 ? IP_MTU_DISCOVER : IPV6_MTU_DISCOVER,
					   &discover, sizeof(discover)))
		return 2;
	for (int number = 4; number < count; number++) {
		if (!strncmp(words[number], "mtu<", 4)) {
			int bound = atoi(words[number] + 4), mtu = known_mtu();
			for (int tries = 0; tries < PATIENCE * 100 && mtu >= bound; tries++) {
				usleep(10000);
				mtu = known_mtu();
			}
			printf("%d ", mtu);
		} else {
			ask(near, atoi(words[number]));
		}
	}
	puts("");
	return 0;
}
