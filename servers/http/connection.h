// One client's connection: requests in their order, one at a time, and what limits each.
#ifndef HTTP_CONNECTION_H
#define HTTP_CONNECTION_H

#include "site.h"

// The listeners' context is the site.
extern const struct weir_protocol http_protocol;

// What the connection is doing; it decides which time-out watches it.
enum connection_phase {
    CONNECTION_IDLE,    // between requests
    CONNECTION_HEAD,    // a head is coming
    CONNECTION_BODY,    // a body is coming; the answer may have begun
    CONNECTION_BUSY,    // a handler answers
    CONNECTION_DISCARD, // answered; the rest of the request's body is read and dropped
    CONNECTION_CLOSING, // the last answer is queued: nothing is read any more
};

// A client that got no processor may come to its answers as late as this when the server ends, or
// shortly before the drain's time-out if that is sooner; and when the connection is old.
#define HTTP_DRAIN_LINGER_NS 10000000000ULL

// The session of a stream, and to handlers their exchange.
struct http_exchange {
    struct weir_stream *stream;
    struct http_worker *worker;
    struct http_parser parser;
    const struct http_route *route;
    void *state; // the handler's
    uint8_t phase;
    bool feeding : 1;       // the input is being parsed now: nobody else may continue it
    bool paused : 1;        // bytes are held, or a queue is full
    bool body_paused : 1;   // the handler wants no more of the body yet
    bool peer_ended : 1;    // its half-close came
    bool draining : 1;      // the server ends, or its own time is over
    bool settled : 1;       // and no answer can still be on its way to the peer
    bool owes : 1;          // a handler has the request, and its answer is not complete
    bool begun : 1;         // the head of a streamed answer is queued
    bool writing : 1;       // and content follows, up to http_answer_end()
    bool want_writable : 1; // and waits for room
    bool kept : 1;          // request and body are this exchange's own
    bool final : 1;         // the connection closes behind this answer
    bool chunked : 1;       // the streamed answer is
    bool behind : 1;        // the head that is coming was last seen behind untaken answers
    int status;             // of the answer, for the log
    uint32_t requests;
    struct weir_slice held; // input behind the request that is being answered
    const char *body;       // in the input, or in body_memory
    size_t body_size;
    char *body_memory;
    size_t body_room;
    uint64_t body_told;    // bytes given to the route's `piece`, or dropped
    uint64_t answer_left;  // of a streamed answer with a length
    uint64_t answer_size;  // what was streamed of it
    uint64_t queued_total; // bytes that were ever given to the stream
    uint64_t progress;     // bytes received and sent when it was last fast enough
    uint64_t progress_ns;  // and when that was
    uint64_t received_total;
    uint64_t since_ns; // of the phase's begin
    uint64_t due_ns;   // of the timer
    struct weir_timer timer;
};

// exchange.c: the part that answers.

// The answer is complete: what follows is read, or the connection closes.
void http_exchange_finish(struct http_exchange *exchange, uint64_t size);
// The connection ends: a request whose answer is not complete is counted as it is, while its texts
// are still there.
void http_exchange_break(struct http_exchange *exchange);
// Answers with a line of text that says the status.
void http_exchange_say(struct http_exchange *exchange, const struct http_answer *answer);
// Answers a request that was not understood or is not served, and closes.
void http_exchange_refuse(struct http_exchange *exchange, int status, const char *reason);
// Queues whole answers of the cache, without a copy of the head.
void http_exchange_send(struct http_exchange *exchange, const void *data, size_t size);
// The server ends, or --total-timeout is over.
void http_connection_draining(struct weir_stream *stream);
void http_connection_expired(struct weir_stream *stream);
// The core ended the connection: tells what is to be known of that.
void http_connection_lost(struct http_exchange *exchange, int reason);
// Ends the connection behind its last answer. What the client still sends would make the kernel
// reset it once it is closed, and what the client had no room for yet would be lost with it: it is
// discarded for a while.
void http_connection_end(struct http_exchange *exchange);

// body.c: the bodies of requests.

// The longest that the request's route takes.
uint64_t http_connection_body_max(const struct http_exchange *exchange);
// Takes the piece that the parser has.
void http_connection_body(struct http_exchange *exchange);

// connection.c: the part that reads.

// The request that is being answered, or is on its way, is the last.
void http_connection_retire(struct http_exchange *exchange);
// Goes on with held input after an answer that came later.
void http_connection_continue(struct http_exchange *exchange);
// Frees what belongs to one request.
void http_connection_reset(struct http_exchange *exchange);
// Whether more than a little of a request's body is still to come.
bool http_connection_rest_is_long(const struct http_exchange *exchange);
// Tells the handler that its exchange ends before its answer.
void http_connection_gone(struct http_exchange *exchange);
// Makes the timer ring by then at the latest.
void http_connection_watch(struct http_exchange *exchange, uint64_t due_ns);
// From now on the peer has to take what is queued.
void http_connection_watch_moving(struct http_exchange *exchange);
void http_connection_enter(struct http_exchange *exchange, enum connection_phase phase);

// Above so many queued bytes nothing more is answered; the loop's high mark, so `drained` follows.
enum { CONNECTION_QUEUE_MAX = 256 * 1024, CONNECTION_QUEUE_LOW = 64 * 1024 };

// So much of a body that nobody wants is read, and no more.
enum { CONNECTION_DISCARD_MAX = 64 * 1024 };

#endif
