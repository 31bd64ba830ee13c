// See text.h.
#include "text.h"

static unsigned char text_lower(char byte)
{
    return (unsigned char)(byte >= 'A' && byte <= 'Z' ? byte + 32 : byte);
}

bool http_text_is_word(struct http_text text, const char *lower)
{
    size_t i = 0;
    for (; i < text.size && lower[i]; i++) {
        if (text_lower(text.data[i]) != (unsigned char)lower[i])
            return false;
    }
    return i == text.size && !lower[i];
}

static bool text_is_blank(char byte)
{
    return byte == ' ' || byte == '\t';
}

struct http_text http_text_trim(struct http_text text)
{
    while (text.size && text_is_blank(text.data[0])) {
        text.data++;
        text.size--;
    }
    while (text.size && text_is_blank(text.data[text.size - 1]))
        text.size--;
    return text;
}

// The position of the first comma outside of quotes, or the end.
static size_t text_element_end(struct http_text list)
{
    bool quoted = false;
    for (size_t i = 0; i < list.size; i++) {
        if (list.data[i] == '"')
            quoted = !quoted;
        else if (list.data[i] == '\\' && quoted)
            i++;
        else if (list.data[i] == ',' && !quoted)
            return i;
    }
    return list.size;
}

bool http_text_next_element(struct http_text *list, struct http_text *ret_element)
{
    while (list->size) {
        size_t end = text_element_end(*list);
        struct http_text element = http_text_trim((struct http_text){ list->data, end });
        size_t used = end < list->size ? end + 1 : end;
        list->data += used;
        list->size -= used;
        if (!element.size)
            continue;
        *ret_element = element;
        return true;
    }
    return false;
}

static unsigned text_weight(struct http_text text)
{
    unsigned scale = 1000, weight = 0;
    for (size_t i = 0; i < text.size; i++) {
        if (i == 1 && text.data[i] == '.')
            continue;
        if (i == 1 || text.data[i] < '0' || text.data[i] > '9')
            return 1000;
        weight += (unsigned)(text.data[i] - '0') * scale;
        scale /= 10;
    }
    return text.size && weight < 1000 ? weight : 1000;
}

unsigned http_text_cut_weight(struct http_text *element)
{
    const char *mark = memchr(element->data, ';', element->size);
    if (!mark)
        return 1000;
    struct http_text rest = { mark, element->size - (size_t)(mark - element->data) };
    element->size -= rest.size;
    *element = http_text_trim(*element);
    while (rest.size) {
        const char *begin = rest.data + 1;
        const char *end = memchr(begin, ';', rest.size - 1);
        size_t size = end ? (size_t)(end - begin) : rest.size - 1;
        struct http_text parameter = http_text_trim((struct http_text){ begin, size });
        if (parameter.size > 1 && (parameter.data[0] | 32) == 'q' && parameter.data[1] == '=')
            return text_weight((struct http_text){ parameter.data + 2, parameter.size - 2 });
        rest.data += size + 1;
        rest.size -= size + 1;
    }
    return 1000;
}

bool http_text_read_number(struct http_text text, uint64_t *ret_number)
{
    uint64_t number = 0;
    if (!text.size)
        return false;
    for (size_t i = 0; i < text.size; i++) {
        if (text.data[i] < '0' || text.data[i] > '9')
            return false;
        uint64_t digit = (uint64_t)(text.data[i] - '0');
        if (number > (UINT64_MAX - digit) / 10)
            return false;
        number = number * 10 + digit;
    }
    *ret_number = number;
    return true;
}

bool http_is_token(unsigned char byte)
{
    if ((byte >= '0' && byte <= '9') || (byte >= 'A' && byte <= 'Z') ||
        (byte >= 'a' && byte <= 'z'))
        return true;
    return byte && strchr("!#$%&'*+-.^_`|~", byte);
}

size_t http_text_write_number(uint64_t number, char *ret_text)
{
    char digits[20];
    size_t count = 0;
    do
        digits[count++] = (char)('0' + number % 10);
    while (number /= 10);
    for (size_t i = 0; i < count; i++)
        ret_text[i] = digits[count - 1 - i];
    return count;
}

size_t http_text_escape(struct http_text text, bool json, char *ret_text, size_t room)
{
    static const char digits[] = "0123456789abcdef";
    const char *prefix = json ? "\\u00" : "\\x";
    size_t used = 0, prefix_size = strlen(prefix);
    for (size_t i = 0; i < text.size; i++) {
        unsigned char byte = (unsigned char)text.data[i];
        bool plain = byte >= ' ' && byte < 0x7f && byte != '"' && byte != '\\';
        size_t size = plain ? 1 : prefix_size + 2;
        if (used + size > room)
            break;
        if (plain) {
            ret_text[used] = (char)byte;
        } else {
            memcpy(ret_text + used, prefix, prefix_size);
            ret_text[used + prefix_size] = digits[byte >> 4];
            ret_text[used + prefix_size + 1] = digits[byte & 15];
        }
        used += size;
    }
    return used;
}
