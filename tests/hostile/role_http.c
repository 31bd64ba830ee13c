// Peers of an HTTP server: requests in a closed loop, each answer compared byte by byte. At the end
// of a connection they tell what was whole, what was cut, and what stayed without an answer.
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "peers.h"

enum { HTTP_HEAD_MAX = 2048 };

// The answer that is being read.
struct http_answer {
    char head[HTTP_HEAD_MAX];
    size_t head_size;
    bool in_body;
    bool last;         // the server said that it closes behind this answer
    uint64_t size, at; // of the body
};

static void http_ask(struct peers *peers, struct peer *peer)
{
    static const char request[] = "GET /file HTTP/1.1\r\nHost: x\r\n\r\n";
    uint64_t began_ns = weir_clock_now();
    ssize_t count = send(peer->fd, request, sizeof request - 1, MSG_NOSIGNAL | MSG_DONTWAIT);
    if (count == (ssize_t)sizeof request - 1) {
        peer_sends(peers, peer, began_ns);
        peer->sent++;
        peers->sent++;
    }
    // Answers may lie before an error, so the connection ends with the next receive. But the kernel
    // tells of a reset once: that receive brings them, and then a plain end.
    peer->send_reset |= count < 0 && peer_is_reset(errno);
}

static void http_opened(struct peers *peers, struct peer *peer)
{
    if (!peer->answer)
        peer->answer = malloc(sizeof *peer->answer);
    if (!peer->answer)
        abort();
    peer->answer->head_size = 0;
    peer->answer->in_body = peer->answer->last = false;
    for (uint32_t i = 0; i < peers->depth; i++)
        http_ask(peers, peer);
}

// Reads the status and the length. A head without either is wrong.
static void http_head(struct peers *peers, struct http_answer *answer)
{
    answer->head[answer->head_size] = 0;
    const char *length = strcasestr(answer->head, "\r\ncontent-length: ");
    peers->not_ok += strncmp(answer->head, "HTTP/1.1 200 ", 13) != 0;
    answer->size = length ? strtoull(length + 18, NULL, 10) : 0;
    peers->wrong += !length || answer->size != peers->expected_size;
    answer->last = strcasestr(answer->head, "\r\nconnection: close") != NULL;
    answer->at = 0;
    answer->in_body = true;
    answer->head_size = 0;
}

// Takes bytes of the head, up to its end. Returns how many.
static size_t http_take_head(struct peers *peers, struct http_answer *answer, const char *data,
                             size_t size)
{
    for (size_t i = 0; i < size; i++) {
        answer->head[answer->head_size++] = data[i];
        if (answer->head_size >= 4 &&
            !memcmp(answer->head + answer->head_size - 4, "\r\n\r\n", 4)) {
            http_head(peers, answer);
            return i + 1;
        }
        if (answer->head_size == HTTP_HEAD_MAX - 1) {
            peers->wrong++;
            answer->head_size = 0;
        }
    }
    return size;
}

static size_t http_take_body(struct peers *peers, struct http_answer *answer, const char *data,
                             size_t size)
{
    size_t count = size < answer->size - answer->at ? size : (size_t)(answer->size - answer->at);
    if (answer->at + count <= peers->expected_size)
        peers->wrong += memcmp(data, peers->expected + answer->at, count) != 0;
    answer->at += count;
    return count;
}

static void http_take(struct peers *peers, struct peer *peer, const char *data, size_t size)
{
    struct http_answer *answer = peer->answer;
    while (size) {
        size_t count = answer->in_body ? http_take_body(peers, answer, data, size)
                                       : http_take_head(peers, answer, data, size);
        data += count;
        size -= count;
        if (!answer->in_body || answer->at < answer->size)
            continue;
        answer->in_body = false;
        peer->received++;
        peers->received++;
        if (!answer->last)
            http_ask(peers, peer);
    }
}

// The connection is over: an answer that had begun was promised, one that had not may be asked for
// elsewhere.
static void http_over(struct peers *peers, struct peer *peer, int error)
{
    peers->partial += peer->answer->in_body || peer->answer->head_size;
    peers->unanswered += peer->sent - peer->received;
    if (peer_lost_after_rest(peer))
        peers->unanswered_rested += peer->sent - peer->received;
    if (error || peer->send_reset)
        peer_lose(peers, peer, error);
    else
        peer_finish(peers, peer);
}

static void http_ready(struct peers *peers, struct peer *peer, uint32_t events)
{
    static char data[PEERS_PERIOD];
    (void)events;
    ssize_t count = recv(peer->fd, data, sizeof data, MSG_DONTWAIT);
    if (count > 0)
        http_take(peers, peer, data, (size_t)count);
    else if (!count)
        http_over(peers, peer, 0);
    else if (errno != EAGAIN)
        http_over(peers, peer, errno);
}

const struct role role_http = {
    .name = "http",
    .events = EPOLLIN,
    .opened = http_opened,
    .ready = http_ready,
};
