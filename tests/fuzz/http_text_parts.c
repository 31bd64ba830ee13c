// Dates, numbers, lists, weights, names of fields and types; see http_text.h.
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "http/date.h"
#include "http/mime.h"
#include "http_text.h"
#include "target.h"

// --- Dates ---------------------------------------------------------------------------------------

enum { TEXT_MAX = 64, NAME_MAX_SIZE = 9, YEAR_AHEAD = 2076 };

enum { PREFERRED, OLD, ASCTIME };

static bool is_leap(long year)
{
    return (year % 4 == 0 && year % 100 != 0) || year % 400 == 0;
}

static int month_days(int month, long year)
{
    static const int days[] = { 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31 };
    return days[month] + (month == 1 && is_leap(year));
}

static int64_t seconds_of(long year, int month, int day, const int clock[3])
{
    int64_t days = day - 1;
    for (long y = 1970; y < year; y++)
        days += 365 + is_leap(y);
    for (long y = year; y < 1970; y++)
        days -= 365 + is_leap(y);
    for (int m = 0; m < month; m++)
        days += month_days(m, year);
    return ((days * 24 + clock[0]) * 60 + clock[1]) * 60 + clock[2];
}

static int month_of(const char name[4])
{
    static const char *const names[] = { "Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                         "Jul", "Aug", "Sep", "Oct", "Nov", "Dec" };
    int month = 0;
    while (month < 12 && strcmp(names[month], name) != 0)
        month++;
    return month;
}

struct parts {
    long year;
    int month, day, clock[3];
};

// Reads the numbers of one form, and writes them again: a date is what comes out as it went in.
static bool is_form(const char *text, int form, struct parts *ret_parts)
{
    static const char *const reads[] = { "%d %3s %d %d:%d:%d", "%d-%3[A-Za-z]-%d %d:%d:%d" };
    static const char *const writes[] = { "%02d %s %04d %02d:%02d:%02d GMT",
                                          "%02d-%s-%02d %02d:%02d:%02d GMT",
                                          "%s %2d %02d:%02d:%02d %04d" };
    char name[4] = "", again[TEXT_MAX], zero[TEXT_MAX];
    int day = 0, clock[3] = { 0 }, year = 0, count;
    if (form == ASCTIME) {
        count =
            sscanf(text, "%3s %d %d:%d:%d %d", name, &day, &clock[0], &clock[1], &clock[2], &year);
        snprintf(again, sizeof again, writes[form], name, day, clock[0], clock[1], clock[2], year);
        // A day below ten may have a zero as well.
        snprintf(zero, sizeof zero, "%s %02d%s", name, day, strlen(again) > 6 ? again + 6 : "");
    } else {
        count = sscanf(text, reads[form], &day, name, &year, &clock[0], &clock[1], &clock[2]);
        snprintf(again, sizeof again, writes[form], day, name, year, clock[0], clock[1], clock[2]);
        memcpy(zero, again, sizeof zero);
    }
    if (count != 6 || (strcmp(again, text) != 0 && strcmp(zero, text) != 0))
        return false;
    // What is written may be longer than its form, and may have a sign.
    if (year < 0 || year > (form == OLD ? 99 : 9999) || clock[0] < 0 || clock[1] < 0 ||
        clock[2] < 0)
        return false;
    *ret_parts = (struct parts){ year, month_of(name), day, { clock[0], clock[1], clock[2] } };
    for (int at = YEAR_AHEAD; form == OLD && (ret_parts->year = at) % 100 != year; at--)
        continue;
    return true;
}

// Whether the text, which ends with a zero, is a date, and which.
static bool model_date(const char *text, size_t size, int64_t *ret_time)
{
    struct parts parts;
    // Behind a day's name, whatever it is.
    const char *comma = size > 3 ? memmem(text + 3, size - 3, ", ", 2) : NULL;
    if (comma && comma - text > NAME_MAX_SIZE)
        comma = NULL;
    if (comma ? !is_form(comma + 2, PREFERRED, &parts) && !is_form(comma + 2, OLD, &parts)
              : size < 4 || text[3] != ' ' || !is_form(text + 4, ASCTIME, &parts))
        return false;
    if (parts.month == 12 || parts.day < 1 || parts.day > month_days(parts.month, parts.year) ||
        parts.clock[0] > 23 || parts.clock[1] > 59 || parts.clock[2] > 60)
        return false;
    *ret_time = seconds_of(parts.year, parts.month, parts.day, parts.clock);
    return true;
}

// Any eight bytes are a time of the years 0 to 9999.
static void require_written(struct http_text text)
{
    const int64_t first = -62167219200, last = 253402300799;
    char written[HTTP_DATE_SIZE];
    int64_t number;
    time_t again;
    if (text.size < sizeof number)
        return;
    memcpy(&number, text.data, sizeof number);
    time_t time = (time_t)(first + (int64_t)((uint64_t)number % (uint64_t)(last - first + 1)));
    http_date_write(time, written);
    fuzz_require(
        http_date_read((struct http_text){ written, sizeof written }, HTTP_TEXT_NOW, &again),
        "a date that was written is refused");
    fuzz_require(again == time, "a date that was written is read as another");
}

void try_date(struct http_text text)
{
    char copy[TEXT_MAX];
    int64_t expected = 0;
    time_t time;
    require_written(text);
    bool read = http_date_read(text, HTTP_TEXT_NOW, &time), holds = false;
    if (text.size < sizeof copy) {
        memcpy(copy, text.data, text.size);
        copy[text.size] = '\0';
        // Behind a zero byte nothing is read here, and a date has none but in its day's name.
        size_t name = text.size < NAME_MAX_SIZE ? text.size : NAME_MAX_SIZE;
        if (memchr(copy + name, '\0', text.size - name))
            return;
        holds = model_date(copy, text.size, &expected);
    }
    fuzz_require(read == holds, "a date is judged otherwise");
    fuzz_require(!read || time == expected, "the date is another");
}

// --- Numbers -------------------------------------------------------------------------------------

void try_number(struct http_text text)
{
    static const char most[] = "18446744073709551615";
    char written[20];
    uint64_t number;
    struct http_text rest = text;
    bool digits = text.size > 0;
    for (size_t i = 0; i < text.size; i++)
        digits = digits && text.data[i] >= '0' && text.data[i] <= '9';
    while (rest.size > 1 && rest.data[0] == '0') {
        rest.data++;
        rest.size--;
    }
    bool fits = rest.size < sizeof most - 1 ||
                (rest.size == sizeof most - 1 && memcmp(rest.data, most, rest.size) <= 0);
    bool read = http_text_read_number(text, &number);
    fuzz_require(read == (digits && fits), "a number is judged otherwise");
    if (!read)
        return;
    size_t size = http_text_write_number(number, written);
    fuzz_require(size == rest.size && !memcmp(written, rest.data, size), "a number is another");
}

// --- Lists ---------------------------------------------------------------------------------------

static bool is_blank(char byte)
{
    return byte == ' ' || byte == '\t';
}

bool model_next(struct http_text *list, struct http_text *ret_element)
{
    size_t first = SIZE_MAX, last = 0, i = 0;
    enum { PLAIN, QUOTED, ESCAPED } state = PLAIN;
    for (; i < list->size; i++) {
        char byte = list->data[i];
        if (byte == ',' && state == PLAIN) {
            if (first != SIZE_MAX)
                break;
            continue;
        }
        if (state == ESCAPED)
            state = QUOTED;
        else if (byte == '"')
            state = state == PLAIN ? QUOTED : PLAIN;
        else if (byte == '\\' && state == QUOTED)
            state = ESCAPED;
        if (is_blank(byte))
            continue;
        first = first == SIZE_MAX ? i : first;
        last = i;
    }
    if (first == SIZE_MAX)
        return false;
    *ret_element = (struct http_text){ list->data + first, last + 1 - first };
    list->data += i;
    list->size -= i;
    return true;
}

// "0", "0.5", "1.000": a digit, and decimals behind a point, three of which count.
static unsigned weight_of(struct http_text text)
{
    unsigned weight = 0, unit = 100;
    bool holds = text.size > 0 && text.data[0] >= '0' && text.data[0] <= '9' &&
                 (text.size == 1 || text.data[1] == '.');
    for (size_t i = 2; holds && i < text.size; i++, unit /= 10) {
        holds = text.data[i] >= '0' && text.data[i] <= '9';
        weight += unit * (unsigned)(text.data[i] - '0');
    }
    return holds && text.data[0] == '0' ? weight : 1000;
}

unsigned model_weight(struct http_text *element)
{
    struct http_text parts[2] = { *element, { NULL, 0 } };
    size_t begin = 0;
    bool named = false, weighed = false;
    unsigned weight = 1000;
    for (size_t i = 0; i <= element->size; i++) {
        if (i < element->size && element->data[i] != ';')
            continue;
        parts[1] = http_text_trim((struct http_text){ element->data + begin, i - begin });
        begin = i + 1;
        if (!named)
            parts[0] = parts[1];
        else if (!weighed && parts[1].size > 1 &&
                 (parts[1].data[0] == 'q' || parts[1].data[0] == 'Q') && parts[1].data[1] == '=') {
            weight = weight_of((struct http_text){ parts[1].data + 2, parts[1].size - 2 });
            weighed = true;
        }
        named = true;
    }
    *element = parts[0];
    return weight;
}

void try_list(struct http_text text)
{
    struct http_text list = text, model = text, element, expected;
    for (;;) {
        bool more = http_text_next_element(&list, &element);
        fuzz_require(more == model_next(&model, &expected), "a list has another length");
        if (!more)
            return;
        fuzz_require(element.data == expected.data && element.size == expected.size,
                     "a list has another element");
        unsigned weight = http_text_cut_weight(&element);
        fuzz_require(weight == model_weight(&expected), "an element has another weight");
        fuzz_require(element.size == expected.size &&
                         (!element.size || element.data == expected.data),
                     "an element without its weight is another");
    }
}

// --- Names ---------------------------------------------------------------------------------------

static enum http_field field_of(struct http_text name)
{
    static const struct {
        const char *name;
        enum http_field field;
    } rows[] = {
        { "Accept", FIELD_ACCEPT },
        { "Accept-Encoding", FIELD_ACCEPT_ENCODING },
        { "Connection", FIELD_CONNECTION },
        { "Content-Length", FIELD_CONTENT_LENGTH },
        { "Content-Type", FIELD_CONTENT_TYPE },
        { "Expect", FIELD_EXPECT },
        { "Host", FIELD_HOST },
        { "If-Match", FIELD_IF_MATCH },
        { "If-Modified-Since", FIELD_IF_MODIFIED_SINCE },
        { "If-None-Match", FIELD_IF_NONE_MATCH },
        { "If-Range", FIELD_IF_RANGE },
        { "If-Unmodified-Since", FIELD_IF_UNMODIFIED_SINCE },
        { "Range", FIELD_RANGE },
        { "Referer", FIELD_REFERER },
        { "Transfer-Encoding", FIELD_TRANSFER_ENCODING },
        { "User-Agent", FIELD_USER_AGENT },
    };
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        if (strlen(rows[i].name) == name.size && !strncasecmp(rows[i].name, name.data, name.size))
            return rows[i].field;
    }
    return FIELD_OTHER;
}

void try_names(struct http_text text)
{
    if (memchr(text.data, '\0', text.size))
        return; // for strncasecmp(3) a name ends there
    fuzz_require(http_field_find(text) == field_of(text), "a field is another");
    const char *type = http_mime_find(text);
    fuzz_require(type && strchr(type, '/') && !strpbrk(type, "\r\n"), "a type is none");
    // Neither case nor folders count.
    char *other = malloc(text.size + 4);
    if (!other)
        abort();
    memcpy(other, "a.b/", 4);
    for (size_t i = 0; i < text.size; i++) {
        char byte = text.data[i];
        other[4 + i] = (char)(byte >= 'a' && byte <= 'z' ? byte - 32 : byte);
    }
    fuzz_require(http_mime_find((struct http_text){ other, text.size + 4 }) == type,
                 "a type depends on case or folders");
    free(other);
}
