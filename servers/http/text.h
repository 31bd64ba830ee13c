// Pieces of text that lie in somebody else's memory, and what HTTP asks about them.
#ifndef HTTP_TEXT_H
#define HTTP_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct http_text {
    const char *data;
    size_t size;
};

// A string literal or a zero-terminated string as a text.
static inline struct http_text http_text_of(const char *string)
{
    return (struct http_text){ string, strlen(string) };
}

static inline bool http_text_is(struct http_text text, const char *string)
{
    return text.size == strlen(string) && memcmp(text.data, string, text.size) == 0;
}

// The same without regard to ASCII case; `lower` is in small letters.
bool http_text_is_word(struct http_text text, const char *lower);

// Without spaces and tabs at both ends.
struct http_text http_text_trim(struct http_text text);

// Cuts the first element off a comma-separated list, trimmed; quoted commas do not count, and empty
// elements are skipped. False when none is left.
bool http_text_next_element(struct http_text *list, struct http_text *ret_element);

// Cuts the parameters off a list's element and returns its weight among them (RFC 9110, 12.4.2) in
// thousandths: 1000 if there is none, or none that can be understood.
unsigned http_text_cut_weight(struct http_text *element);

// Reads a plain decimal number: digits only. False on anything else, and on overflow.
bool http_text_read_number(struct http_text text, uint64_t *ret_number);

// A character of a token (RFC 9110, 5.6.2).
bool http_is_token(unsigned char byte);

// Writes the number in decimal and returns its length, at most 20.
size_t http_text_write_number(uint64_t number, char *ret_text);

// Writes the text so that it can harm no reader of a log: quotes, backslashes and everything that
// is not printable ASCII become \xHH, or \u00HH in JSON. What does not fit is left out, from the
// first such byte on. Returns the length, at most `room`.
size_t http_text_escape(struct http_text text, bool json, char *ret_text, size_t room);

#endif
