// See parser.h. llhttp calls back for pieces; http_parser_next() turns pauses into events.
#include "parser.h"

#include <errno.h>
#include <stdlib.h>

#include "check.h"

enum { PARSER_STORE_MIN = 1024, PARSER_HEADERS_MIN = 16, PARSER_EXTENSION_MAX = 1024 };
enum { PARSER_TRAILERS_MAX = 32, PARSER_METHOD_MAX = 32 };

enum parser_phase {
    PHASE_LEAD,    // before a request: an empty line or two may come
    PHASE_LEAD_CR, // one has begun
    PHASE_HEAD,
    PHASE_BODY,
    PHASE_FAILED,
};

// Where in the request line the input is.
enum parser_line {
    LINE_METHOD,
    LINE_BEFORE_TARGET, // one blank came
    LINE_TARGET,
    LINE_NAME,                    // one blank came: "HTTP/" follows, a state for each letter
    LINE_VERSION = LINE_NAME + 5, // anything but blanks; llhttp looks at it
    LINE_DONE,
};

// The texts, and in a parser's own head the store that they lie in.
struct http_head {
    struct http_text method, target;
    size_t headers_count, headers_room;
    char *store; // NULL: the texts lie in the input
    size_t store_used, store_room;
    struct http_header headers[];
};

// --- Heads ---------------------------------------------------------------------------------------

static struct http_head *head_allocate(size_t headers_room, size_t store_room)
{
    struct http_head *head =
        malloc(sizeof *head + headers_room * sizeof head->headers[0] + store_room);
    if (!head)
        return NULL;
    *head = (struct http_head){ .headers_room = headers_room, .store_room = store_room };
    if (store_room)
        head->store = (char *)(head->headers + headers_room);
    return head;
}

struct http_head *http_head_create(const struct http_parser_limits *limits)
{
    return head_allocate(limits->headers + (size_t)1, 0); // one too many is noticed at its end
}

static void head_clear(struct http_head *head)
{
    head->method = head->target = (struct http_text){ NULL, 0 };
    head->headers_count = head->store_used = 0;
}

static struct http_text head_store(struct http_head *head, struct http_text text)
{
    char *place = head->store + head->store_used;
    if (text.size)
        memcpy(place, text.data, text.size);
    head->store_used += text.size;
    return (struct http_text){ place, text.size };
}

static size_t head_size(const struct http_head *head)
{
    size_t size = head->method.size + head->target.size;
    for (size_t i = 0; i < head->headers_count; i++)
        size += head->headers[i].name.size + head->headers[i].value.size;
    return size;
}

// Moves the parser to a head of its own with room for `headers` and `bytes` more.
static int parser_own(struct http_parser *parser, size_t headers, size_t bytes)
{
    struct http_head *old = parser->head;
    size_t headers_room = 2 * old->headers_count + headers, store_room = 2 * head_size(old) + bytes;
    headers_room = headers_room < PARSER_HEADERS_MIN ? PARSER_HEADERS_MIN : headers_room;
    store_room = store_room < PARSER_STORE_MIN ? PARSER_STORE_MIN : store_room;
    struct http_head *head = head_allocate(headers_room, store_room);
    if (!head)
        return -ENOMEM;
    head->method = head_store(head, old->method);
    head->target = head_store(head, old->target);
    for (size_t i = 0; i < old->headers_count; i++) {
        head->headers[i].name = head_store(head, old->headers[i].name);
        head->headers[i].value = head_store(head, old->headers[i].value);
        head->headers[i].field = old->headers[i].field;
    }
    head->headers_count = old->headers_count;
    if (old != parser->scratch)
        free(old);
    parser->head = head;
    return 0;
}

// --- Refusals ------------------------------------------------------------------------------------

// Its value is what a callback of llhttp returns to end.
static int parser_refuse(struct http_parser *parser, uint16_t status, const char *reason)
{
    if (!parser->status) {
        parser->status = status;
        parser->reason = reason;
    }
    return -1;
}

static int parser_no_memory(struct http_parser *parser)
{
    return parser_refuse(parser, 503, "out of memory");
}

// What llhttp refused, as a status. It does not know a method, a version or a coding: that is its
// own kind of answer, everything else is a bad request.
static uint16_t parser_status(const struct http_parser *parser, llhttp_errno_t error)
{
    const char *at = llhttp_get_error_pos(&parser->llhttp);
    const char *reason = llhttp_get_error_reason(&parser->llhttp);
    if (error == HPE_PAUSED_H2_UPGRADE)
        return 505;
    if (error == HPE_INVALID_METHOD)
        return at && http_is_token((unsigned char)*at) ? 501 : 400;
    if (error == HPE_INVALID_VERSION && reason && strcmp(reason, "Invalid HTTP version") == 0)
        return 505;
    return 400;
}

bool http_parser_is_of_head(const struct http_parser *parser)
{
    bool named = parser->phase == PHASE_HEAD && parser->line >= LINE_BEFORE_TARGET &&
                 llhttp_get_errno(&parser->llhttp) != HPE_INVALID_METHOD;
    return parser->request.method == METHOD_HEAD || (named && parser->llhttp.method == HTTP_HEAD);
}

static enum http_event parser_fail(struct http_parser *parser)
{
    if (http_parser_is_of_head(parser))
        parser->request.method = METHOD_HEAD; // known by this phase, and told in the next one
    parser->phase = PHASE_FAILED;
    return EVENT_ERROR;
}

static enum http_event parser_failed(struct http_parser *parser, llhttp_errno_t error)
{
    if (!parser->status) {
        const char *reason = llhttp_get_error_reason(&parser->llhttp);
        parser_refuse(parser, parser_status(parser, error), reason ? reason : "malformed");
    }
    return parser_fail(parser);
}

// --- Pieces of the head --------------------------------------------------------------------------

static struct http_parser *parser_of(llhttp_t *llhttp)
{
    return llhttp->data;
}

// Adds a piece to the text that is coming. Room is made before, since that moves the texts.
static int parser_room(struct http_parser *parser, size_t headers, size_t bytes)
{
    struct http_head *head = parser->head;
    bool fits = head->headers_count + headers <= head->headers_room &&
                (!head->store || head->store_used + bytes <= head->store_room);
    return fits ? 0 : parser_own(parser, headers, bytes);
}

static void parser_add(struct http_head *head, struct http_text *text, const char *at, size_t size)
{
    struct http_text piece = { at, size };
    if (head->store)
        piece = head_store(head, piece);
    if (!text->size)
        text->data = piece.data;
    text->size += size;
}

static int parser_on_method(llhttp_t *llhttp, const char *at, size_t size)
{
    struct http_parser *parser = parser_of(llhttp);
    // UNTESTED: needs memory to run out at that head
    if (parser_room(parser, 0, size))
        return parser_no_memory(parser);
    parser_add(parser->head, &parser->head->method, at, size);
    return 0;
}

static int parser_on_url(llhttp_t *llhttp, const char *at, size_t size)
{
    struct http_parser *parser = parser_of(llhttp);
    // UNTESTED: as above
    if (parser_room(parser, 0, size))
        return parser_no_memory(parser);
    parser_add(parser->head, &parser->head->target, at, size);
    return 0;
}

static int parser_on_version(llhttp_t *llhttp)
{
    struct http_parser *parser = parser_of(llhttp);
    if (llhttp->http_major != 1 || llhttp->http_minor > 1)
        return parser_refuse(parser, 505, "version");
    return 0;
}

// Trailers are checked, counted and dropped: none of them changes what this server does.
static int parser_trailer(struct http_parser *parser, size_t size)
{
    parser->counted += (uint32_t)size;
    if (parser->counted > parser->limits->header_bytes)
        return parser_refuse(parser, 431, "the trailers are too long");
    return 0;
}

static int parser_on_field(llhttp_t *llhttp, const char *at, size_t size)
{
    struct http_parser *parser = parser_of(llhttp);
    struct http_head *head = parser->head;
    if (parser->phase == PHASE_BODY)
        return parser_trailer(parser, size);
    // A name begins where the last header has its value, or where there is none.
    bool first = !head->headers_count || head->headers[head->headers_count - 1].field;
    // UNTESTED: as above
    if (parser_room(parser, first, size))
        return parser_no_memory(parser);
    head = parser->head;
    if (first)
        head->headers[head->headers_count++] = (struct http_header){ .field = FIELD_OTHER };
    parser_add(head, &head->headers[head->headers_count - 1].name, at, size);
    return 0;
}

static int parser_on_field_complete(llhttp_t *llhttp)
{
    struct http_parser *parser = parser_of(llhttp);
    if (parser->phase == PHASE_BODY) {
        if (++parser->trailers > PARSER_TRAILERS_MAX)
            return parser_refuse(parser, 431, "too many trailer fields");
        return 0;
    }
    // Not before: whether the name is one at all must not depend on the pieces it came in.
    if (parser->head->headers_count > parser->limits->headers)
        return parser_refuse(parser, 431, "too many header fields");
    // From here on the header has a field; until the head is complete, plus one, so that it is
    // never zero.
    struct http_header *header = &parser->head->headers[parser->head->headers_count - 1];
    header->field = 1U + http_field_find(header->name);
    return 0;
}

static int parser_on_value(llhttp_t *llhttp, const char *at, size_t size)
{
    struct http_parser *parser = parser_of(llhttp);
    if (parser->phase == PHASE_BODY)
        return parser_trailer(parser, size);
    // UNTESTED: as above
    if (parser_room(parser, 0, size))
        return parser_no_memory(parser);
    struct http_head *head = parser->head;
    parser_add(head, &head->headers[head->headers_count - 1].value, at, size);
    return 0;
}

// --- A complete head -----------------------------------------------------------------------------

static enum http_method parser_method(uint8_t method)
{
    static const struct {
        uint8_t llhttp, method;
    } rows[] = {
        { HTTP_GET, METHOD_GET },       { HTTP_HEAD, METHOD_HEAD },
        { HTTP_POST, METHOD_POST },     { HTTP_PUT, METHOD_PUT },
        { HTTP_DELETE, METHOD_DELETE }, { HTTP_OPTIONS, METHOD_OPTIONS },
        { HTTP_PATCH, METHOD_PATCH },
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        if (rows[i].llhttp == method)
            return (enum http_method)rows[i].method;
    }
    return METHOD_OTHER;
}

static void parser_publish(struct http_parser *parser)
{
    struct http_request *request = &parser->request;
    struct http_head *head = parser->head;
    request->method_text = head->method;
    request->target = head->target;
    request->headers = head->headers;
    request->headers_count = head->headers_count;
    for (size_t i = 0; i < head->headers_count; i++) {
        head->headers[i].field--;
        head->headers[i].value = http_text_trim(head->headers[i].value);
        request->fields |= 1U << head->headers[i].field;
    }
}

static int parser_on_headers_complete(llhttp_t *llhttp)
{
    struct http_parser *parser = parser_of(llhttp);
    parser->request = (struct http_request){
        .method = parser_method(llhttp->method),
        .minor = llhttp->http_minor,
        // In 1.0 llhttp lets "keep-alive" win over "close" (RFC 9112, 9.3).
        .keep_alive = llhttp_should_keep_alive(llhttp) && !(llhttp->flags & F_CONNECTION_CLOSE),
    };
    parser_publish(parser);
    struct http_request *request = &parser->request;
    if (llhttp->method == HTTP_CONNECT)
        return parser_refuse(parser, 501, "CONNECT");
    const char *reason;
    int status = http_request_check(request, &reason);
    if (status)
        return parser_refuse(parser, (uint16_t)status, reason);
    llhttp->upgrade = 0; // this server never changes protocols: the bytes that follow are HTTP
    request->chunked = llhttp->flags & F_CHUNKED;
    request->content_length = request->chunked ? 0 : llhttp->content_length;
    if (!http_request_has(request, FIELD_CONTENT_LENGTH))
        request->content_length = 0;
    request->has_body = request->chunked || request->content_length;
    parser->phase = PHASE_BODY;
    parser->counted = parser->extension = parser->trailers = 0;
    return request->has_body ? HPE_PAUSED : 0;
}

// --- The body ------------------------------------------------------------------------------------

// One piece at a time: each chunk's end pauses.
static int parser_on_body(llhttp_t *llhttp, const char *at, size_t size)
{
    struct http_parser *parser = parser_of(llhttp);
    parser->body_data = at;
    parser->body_size = size;
    return 0;
}

static int parser_on_chunk(llhttp_t *llhttp)
{
    return parser_of(llhttp)->body_size ? HPE_PAUSED : 0;
}

static int parser_on_extension(llhttp_t *llhttp, const char *at, size_t size)
{
    struct http_parser *parser = parser_of(llhttp);
    (void)at;
    parser->extension += (uint32_t)size;
    if (parser->extension > PARSER_EXTENSION_MAX)
        return parser_refuse(parser, 413, "chunk extensions are too long");
    return 0;
}

static int parser_on_complete(llhttp_t *llhttp)
{
    parser_of(llhttp)->ended = true;
    return HPE_PAUSED;
}

static const llhttp_settings_t parser_settings = {
    .on_method = parser_on_method,
    .on_url = parser_on_url,
    .on_version_complete = parser_on_version,
    .on_header_field = parser_on_field,
    .on_header_field_complete = parser_on_field_complete,
    .on_header_value = parser_on_value,
    .on_headers_complete = parser_on_headers_complete,
    .on_body = parser_on_body,
    .on_chunk_complete = parser_on_chunk,
    .on_chunk_extension_name = parser_on_extension,
    .on_chunk_extension_value = parser_on_extension,
    .on_message_complete = parser_on_complete,
};

// --- Events --------------------------------------------------------------------------------------

void http_parser_init(struct http_parser *parser, const struct http_parser_limits *limits,
                      struct http_head *scratch)
{
    *parser = (struct http_parser){ .limits = limits, .scratch = scratch, .head = scratch };
    llhttp_init(&parser->llhttp, HTTP_REQUEST, &parser_settings);
    parser->llhttp.data = parser;
}

void http_parser_fini(struct http_parser *parser)
{
    if (parser->head != parser->scratch)
        free(parser->head);
    parser->head = parser->scratch;
}

int http_parser_keep(struct http_parser *parser)
{
    if (parser->head != parser->scratch)
        return 0;
    const char *target = parser->request.target.data;
    int error = parser_own(parser, 0, 0);
    if (error)
        return error;
    struct http_request *request = &parser->request;
    const char *moved = parser->head->target.data;
    request->method_text = parser->head->method;
    request->target = parser->head->target;
    request->headers = parser->head->headers;
    if (request->path.data >= target && request->path.data < target + request->target.size)
        request->path.data = moved + (request->path.data - target);
    if (request->query.data)
        request->query.data = moved + (request->query.data - target);
    return 0;
}

void http_parser_release(struct http_parser *parser)
{
    http_parser_fini(parser);
    parser->request = (struct http_request){ 0 };
}

bool http_parser_busy(const struct http_parser *parser)
{
    return parser->phase == PHASE_HEAD || parser->phase == PHASE_BODY ||
           parser->phase == PHASE_LEAD_CR;
}

bool http_parser_in_head(const struct http_parser *parser)
{
    return parser->phase == PHASE_HEAD || parser->phase == PHASE_LEAD_CR;
}

// Empty lines before a request (RFC 9112, 2.2), as CRLF and no more than two.
static bool parser_lead(struct http_parser *parser, const char **data, const char *end)
{
    while (*data < end && parser->phase != PHASE_HEAD) {
        bool wants_lf = parser->phase == PHASE_LEAD_CR;
        if (!wants_lf && **data != '\r' && **data != '\n') {
            parser->phase = PHASE_HEAD;
            parser->counted = 0;
            parser->line = LINE_METHOD;
            head_clear(parser->head);
            break;
        }
        if (**data != (wants_lf ? '\n' : '\r') || parser->counted++ >= 4) {
            parser_refuse(parser, 400, "lines before the request");
            return false;
        }
        parser->phase = wants_lf ? PHASE_LEAD : PHASE_LEAD_CR;
        (*data)++;
    }
    return true;
}

static enum http_event parser_over(struct http_parser *parser)
{
    if (parser->line < LINE_NAME)
        parser_refuse(parser, 414, "the target is too long");
    else
        parser_refuse(parser, 431, "the head is too long");
    return parser_fail(parser);
}

// The request is over; the next byte begins another.
static void parser_finish(struct http_parser *parser)
{
    parser->ended = false;
    parser->phase = PHASE_LEAD;
    parser->counted = 0;
}

// What the pause means.
static enum http_event parser_paused(struct http_parser *parser, bool was_head)
{
    if (parser->body_size)
        return EVENT_BODY;
    if (was_head) {
        if (parser->ended)
            parser_finish(parser);
        return EVENT_HEAD;
    }
    parser_finish(parser);
    return EVENT_END;
}

// Whether a whole request line, its end included, is there and as it should be: the usual case.
static bool parser_line_is_sound(const char *data, size_t size)
{
    const char *end = memchr(data, '\n', size);
    const char *method = end ? memchr(data, ' ', (size_t)(end - data)) : NULL;
    const char *target = method ? memchr(method + 1, ' ', (size_t)(end - method - 1)) : NULL;
    if (!target || target == method + 1 || end - target < 6 || memcmp(target + 1, "HTTP/", 5) != 0)
        return false;
    return !memchr(target + 6, ' ', (size_t)(end - target - 6));
}

// How far the request line may be handed on: up to its end, or to the byte that breaks it. llhttp
// takes several blanks where one belongs (RFC 9112, 3), and other protocols' names before the
// version.
static size_t parser_line(struct http_parser *parser, const char *data, size_t size)
{
    static const char name[] = "HTTP/";
    if (parser->line == LINE_METHOD && parser_line_is_sound(data, size)) {
        parser->line = LINE_DONE;
        return size;
    }
    for (size_t i = 0; i < size; i++) {
        if (data[i] == '\n' && parser->line == LINE_VERSION) {
            parser->line = LINE_DONE;
            return size;
        }
        if (data[i] == '\n')
            return i;
        bool blank = data[i] == ' ';
        if (parser->line == LINE_METHOD || parser->line == LINE_TARGET)
            parser->line += blank;
        else if (parser->line == LINE_BEFORE_TARGET && !blank)
            parser->line = LINE_TARGET;
        else if (parser->line >= LINE_NAME && parser->line < LINE_VERSION &&
                 data[i] == name[parser->line - LINE_NAME])
            parser->line++;
        else if (parser->line != LINE_VERSION || blank)
            return i;
    }
    return size;
}

// Hands the input to llhttp: of a head no more than the limit allows.
static llhttp_errno_t parser_execute(struct http_parser *parser, const char **data, const char *end)
{
    size_t size = (size_t)(end - *data), room = parser->limits->header_bytes - parser->counted;
    bool was_head = parser->phase == PHASE_HEAD;
    if (was_head && size > room)
        size = room;
    size_t sound = was_head && parser->line != LINE_DONE ? parser_line(parser, *data, size) : size;
    bool broken = sound < size;
    size = sound;
    if (parser->paused)
        llhttp_resume(&parser->llhttp);
    llhttp_errno_t error = llhttp_execute(&parser->llhttp, *data, size);
    parser->paused = error == HPE_PAUSED;
    if (error)
        size = (size_t)(llhttp_get_error_pos(&parser->llhttp) - *data);
    *data += size;
    if (was_head && parser->phase == PHASE_HEAD)
        parser->counted += (uint32_t)size;
    if (broken && !error) {
        parser_refuse(parser, 400, "malformed request line");
        return HPE_STRICT;
    }
    return error;
}

enum http_event http_parser_next(struct http_parser *parser, const char **data, const char *end)
{
    parser->body_size = 0;
    if (parser->phase == PHASE_FAILED)
        return EVENT_ERROR;
    if (parser->ended) { // behind a piece of the body that was told
        parser_finish(parser);
        return EVENT_END;
    }
    while (*data < end) {
        if (parser->phase <= PHASE_LEAD_CR && !parser_lead(parser, data, end))
            return parser_failed(parser, HPE_STRICT);
        if (*data == end)
            break;
        bool was_head = parser->phase == PHASE_HEAD;
        llhttp_errno_t error = parser_execute(parser, data, end);
        if (parser->paused)
            return parser_paused(parser, was_head);
        if (error)
            parser_failed(parser, error);
        if (parser->body_size)
            return EVENT_BODY; // a refusal of what follows it is told next
        if (error)
            return EVENT_ERROR;
        if (parser->phase == PHASE_HEAD && parser->counted == parser->limits->header_bytes)
            return parser_over(parser);
    }
    if (parser->phase == PHASE_HEAD && parser->head == parser->scratch &&
        parser_own(parser, 0, 0)) {
        parser_no_memory(parser);
        return parser_failed(parser, HPE_USER);
    }
    return EVENT_MORE;
}
