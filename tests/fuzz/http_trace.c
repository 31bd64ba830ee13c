// See http_trace.h. Each piece lies in a block of exactly its size, so that a sanitizer sees every
// byte that is read beyond it, or after it is gone.
#include "http_trace.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "http/parser.h"

static void trace_text(FILE *file, const char *name, struct http_text text)
{
    fprintf(file, " %s=", name);
    if (text.size)
        fwrite(text.data, 1, text.size, file);
}

static void trace_head(FILE *file, const struct http_request *request)
{
    fprintf(file, "\nhead %d 1.%u keep=%d body=%d chunked=%d continue=%d length=%llu",
            (int)request->method, request->minor, request->keep_alive, request->has_body,
            request->chunked, request->expects_continue,
            (unsigned long long)request->content_length);
    trace_text(file, "method", request->method_text);
    trace_text(file, "target", request->target);
    trace_text(file, "path", request->path);
    trace_text(file, "query", request->query);
    for (size_t i = 0; i < request->headers_count; i++) {
        fprintf(file, "\n%u", request->headers[i].field);
        trace_text(file, "name", request->headers[i].name);
        trace_text(file, "value", request->headers[i].value);
    }
}

// False when the parser refused.
static int trace_events(FILE *file, struct http_parser *parser, const char *at, const char *end)
{
    for (;;) {
        switch (http_parser_next(parser, &at, end)) {
        case EVENT_MORE:
            // As a connection does: what a body's request still needs must survive the input.
            if (http_parser_busy(parser) && !http_parser_in_head(parser))
                http_parser_keep(parser);
            return 1;
        case EVENT_HEAD:
            trace_head(file, &parser->request);
            fprintf(file, "\n");
            if (!parser->request.has_body)
                http_parser_release(parser);
            break;
        case EVENT_BODY:
            fwrite(parser->body_data, 1, parser->body_size, file);
            break;
        case EVENT_END:
            fprintf(file, "\nend");
            trace_text(file, "target", parser->request.target);
            http_parser_release(parser);
            break;
        case EVENT_ERROR:
            fprintf(file, "\nrefused %u %s", parser->status, parser->reason);
            return 0;
        }
    }
}

char *http_trace(const char *data, size_t size, struct http_trace_cut cut)
{
    const struct http_parser_limits limits = { .header_bytes = 1024, .headers = 16 };
    struct http_head *scratch = http_head_create(&limits);
    struct http_parser parser;
    char *text = NULL;
    size_t text_size, piece = cut.first ? cut.first : cut.others;
    FILE *file = open_memstream(&text, &text_size);
    http_parser_init(&parser, &limits, scratch);
    for (int goes_on = 1; size && goes_on; piece = cut.others) {
        if (piece > size)
            piece = size;
        char *copy = malloc(piece);
        memcpy(copy, data, piece);
        goes_on = trace_events(file, &parser, copy, copy + piece);
        free(copy);
        data += piece;
        size -= piece;
    }
    fprintf(file, "\nbusy=%d", http_parser_busy(&parser));
    http_parser_fini(&parser);
    free(scratch);
    fclose(file);
    return text;
}
